"""Every export format, by the names that `export.formats` takes: the file of that name in this folder declares it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import get_args

from pipeline.config.schema import ExportFormat
from pipeline.export.formats.format import Format


def _declared(name: ExportFormat) -> Format:
    found: Format = import_module(f"pipeline.export.formats.{name}").FORMAT
    return found


FORMATS: Mapping[ExportFormat, Format] = {name: _declared(name) for name in get_args(ExportFormat)}
