"""Every export format, by the names that `export.formats` takes: each file here declares one, or those alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pipeline.config.schema import ExportFormat
from pipeline.export.formats import gguf, gguf_lora, merged, ollama, peft_adapter
from pipeline.export.formats.format import Format

_DECLARED = {each.name: each for module in (peft_adapter, merged, gguf, gguf_lora, ollama) for each in module.FORMATS}
FORMATS: Mapping[ExportFormat, Format] = {name: _DECLARED[name] for name in get_args(ExportFormat)}
