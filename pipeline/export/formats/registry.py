"""Every export format, by the names that `export.formats` takes: each file here declares one, or those alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pipeline.config.schema import ExportFormat
from pipeline.export.formats import gguf, gguf_lora, merged, ollama, peft_adapter, runtime_int8, vllm_int8
from pipeline.export.formats.format import Format

_MODULES = (peft_adapter, merged, gguf, gguf_lora, ollama, runtime_int8, vllm_int8)
_DECLARED = {each.name: each for module in _MODULES for each in module.FORMATS}
FORMATS: Mapping[ExportFormat, Format] = {name: _DECLARED[name] for name in get_args(ExportFormat)}
