"""The merged model with its linear layers in eight bits, as bitsandbytes holds them: transformers loads it as it is."""

from __future__ import annotations

from pipeline.export.card_use import RUNTIME_INT8_USE
from pipeline.export.int8.packaged import Kind, format_of
from pipeline.export.int8.scheme import BITSANDBYTES

FORMATS = (format_of(Kind("runtime_int8", "8-bit model", BITSANDBYTES, "bitsandbytes", "bitsandbytes", RUNTIME_INT8_USE)),)
