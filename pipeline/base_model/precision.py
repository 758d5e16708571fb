"""Precision modes: in what type frozen weights are held and computed with, and how many bytes they take."""

from __future__ import annotations

from typing import Literal

from pipeline.base_model.shape import ModelShape, linear_layers
from pipeline.config.schema import PrecisionMode
from pipeline.system.gpu import Device

ComputeDtype = Literal["float32", "bfloat16", "float16"]
DTYPE_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
# NF4 with double quantization: 4 bits, an 8-bit scale for 64 weights, and a 32-bit scale for 256 of those
# (Dettmers et al. 2023, §3: 0.127 bits a weight on top of 4).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)


def weight_bytes(shape: ModelShape, precision_mode: PrecisionMode, compute_dtype: ComputeDtype) -> int:
    """The frozen base. Embeddings and norms stay in the compute type whatever the mode, but with float16 in 32 bits."""
    wide = stream_bytes(compute_dtype)
    if precision_mode in ("lora_bf16", "lora_fp16"):
        table = shape.vocabulary * shape.hidden  # of words; a head of its own is a linear layer like the others
        return 2 * shape.parameters + (wide - 2) * (table + shape.norm_parameters)
    rest = (shape.embedding_parameters + shape.norm_parameters) * wide
    if precision_mode == "qlora_nf4":
        return int(shape.linear_parameters * NF4_BYTES) + rest
    scales = 4 * shape.layers * sum(outputs for _, outputs in linear_layers(shape).values())
    return shape.linear_parameters + scales + rest


def stream_bytes(compute_dtype: ComputeDtype) -> int:
    """Of a number that passes from layer to layer: with float16 it begins as a 32-bit embedding and stays one."""
    return DTYPE_BYTES["bfloat16" if compute_dtype == "bfloat16" else "float32"]


def compute_dtype(precision_mode: PrecisionMode, device: Device) -> ComputeDtype:
    """What the matrix products are computed in.

    On a GPU bfloat16 where it has it (capability 8), else float16. On a CPU with bfloat16 units bfloat16 too (NF4 trains 1.4
    times as fast in two thirds of the memory, measured on SmolLM2); not for 8-bit weights, whose products are faster in 32 bits.
    """
    if device.kind == "cpu":
        return "bfloat16" if device.bfloat16 and precision_mode != "lora_int8" else "float32"
    if precision_mode == "lora_fp16" or (device.capability or (8, 0)) < (8, 0):
        return "float16"
    return "bfloat16"


# GPUs older than this have no bfloat16 units, and bitsandbytes has no 8-bit kernels for those older than the second.
BFLOAT16_CAPABILITY = (8, 0)


INT8_CAPABILITY = (7, 5)


PRECISIONS: dict[str, str] = {
    "qlora_nf4": "4-bit weights: the least memory, nearly the same quality",
    "lora_bf16": "16-bit weights (bfloat16): four times the weights of 4-bit, a little faster",
    "lora_fp16": "16-bit weights (float16): for GPUs without bfloat16",
    "lora_int8": "8-bit weights: between 4 and 16 bits, slower than both",
}
