"""The merged model with its linear layers in eight bits, as compressed-tensors publishes them: what vLLM loads."""

from __future__ import annotations

from pipeline.export.card_use import VLLM_INT8_USE
from pipeline.export.int8.packaged import Kind, format_of
from pipeline.export.int8.scheme import COMPRESSED_TENSORS

_NOTE = (
    "It was not run in vLLM: that its requirements are met is known from its published form. Its fastest kernels (Marlin) want "
    "layers whose inputs are a multiple of 128 and whose outputs are one of 64."
)

FORMATS = (
    format_of(
        Kind(
            "vllm_int8", "8-bit model for vLLM", COMPRESSED_TENSORS, "compressed-tensors", "compressed_tensors", VLLM_INT8_USE,
            extra="vllm", opens_dense=True, note=_NOTE,
        )
    ),
)  # fmt: skip
