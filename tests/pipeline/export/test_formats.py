"""Export formats: each name of the config has a file that declares it, and whatever packages one asks that file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import get_args

import pytest

from pipeline.config.schema import ExportFormat
from pipeline.export import formats
from pipeline.export.formats.registry import FORMATS
from pipeline.planning.export_formats import EXPORT_FORMATS


@pytest.mark.parametrize("name", get_args(ExportFormat))
def test_each_name_the_config_takes_has_a_format(name: ExportFormat) -> None:
    found = FORMATS[name]
    assert found.name == name and found.title and found.doing and found.command.startswith("humigence ")


def test_no_file_declares_a_format_that_the_config_does_not_take() -> None:
    files = {module.name for module in pkgutil.iter_modules(formats.__path__)} - {"format", "registry"}
    declared = [each.name for file in files for each in importlib.import_module(f"{formats.__name__}.{file}").FORMATS]
    assert sorted(declared) == sorted(FORMATS) and set(FORMATS) == set(EXPORT_FORMATS)
