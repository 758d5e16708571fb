"""Precision modes: how the frozen linear layers are held and computed with, what that takes, and where it works.

To add one: a row here, and its name in the config's `PrecisionMode`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.base_model.footprint import Weights
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import EnvironmentFault
from pipeline.config.schema import PrecisionMode
from pipeline.system.gpu import Device

ComputeDtype = Literal["float32", "bfloat16", "float16"]
DTYPE_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
# GPUs older than this have no bfloat16 units.
BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Precision:
    """A precision mode.

    Attributes:
        what: in a few words, for a person who chooses.
        bits: of a held weight, scales aside.
        dtype: torch's name of the type the linear layers are held in; None where they are quantized.
        quantization: arguments of transformers' `BitsAndBytesConfig`; the compute type is added where a model is loaded.
        weight_bytes: of a held weight, with its share of scales.
        output_bytes: of a linear layer's output feature, for scales that are kept one an output.
        widened_scale_bytes: of a held weight, for its share of scales while the fused layers de-quantize.
        keeps_inputs: on a GPU a layer keeps what it read for its backward pass, adapted or not.
        gpu_dtype: what a GPU with bfloat16 units computes in.
        cpu_bfloat16: whether a CPU with bfloat16 units computes in bfloat16; else in 32 bits.
        least_capability: compute capability that a GPU needs.
        needs_package: a package without which nothing can be loaded.
        otherwise: the mode to take where the GPU is too old for this one.
    """

    name: PrecisionMode
    what: str
    bits: int
    dtype: Literal["bfloat16", "float16"] | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    weight_bytes: float = 2
    output_bytes: int = 0
    widened_scale_bytes: float = 0
    keeps_inputs: bool = False
    gpu_dtype: ComputeDtype = "bfloat16"
    cpu_bfloat16: bool = True
    least_capability: tuple[int, int] | None = None
    needs_package: str | None = None
    otherwise: PrecisionMode = "qlora_nf4"

    @property
    def quantized(self) -> bool:
        return self.dtype is None


_MODES = (
    Precision(
        "qlora_nf4",
        "4-bit weights: the least memory, nearly the same quality",
        bits=4,
        quantization={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        # With double quantization: 4 bits, an 8-bit scale for 64 weights, and a 32-bit scale for 256 of those
        # (Dettmers et al. 2023, §3: 0.127 bits a weight on top of 4).
        weight_bytes=0.5 + 1 / 64 + 4 / (64 * 256),
        widened_scale_bytes=4 / 64,
        needs_package="bitsandbytes",
    ),
    Precision(
        "lora_bf16",
        "16-bit weights (bfloat16): four times the weights of 4-bit, a little faster",
        bits=16,
        dtype="bfloat16",
        least_capability=BFLOAT16_CAPABILITY,
        otherwise="lora_fp16",
    ),
    Precision(
        "lora_fp16",
        "16-bit weights (float16): for GPUs without bfloat16",
        bits=16,
        dtype="float16",
        gpu_dtype="float16",
    ),
    Precision(
        "lora_int8",
        "8-bit weights: between 4 and 16 bits, slower than both",
        bits=8,
        quantization={"load_in_8bit": True},
        weight_bytes=1,
        output_bytes=4,
        keeps_inputs=True,
        cpu_bfloat16=False,  # its products are faster in 32 bits
        least_capability=(7, 5),  # bitsandbytes has no 8-bit kernels for older ones
        needs_package="bitsandbytes",
    ),
)
PRECISIONS: dict[PrecisionMode, Precision] = {mode.name: mode for mode in _MODES}
SMALLEST = min(_MODES, key=lambda mode: mode.weight_bytes).name


# ------------------------------------------------------------------------------------------------- where it works


@dataclass(frozen=True)
class Lack:
    """What a precision mode needs and does not have here, and the command that helps."""

    needs: str
    remedy: str


def why_not(mode: PrecisionMode, device: Device | None) -> Lack | None:
    """Why this mode can't be trained in here, or None where it can. Memory is the plan's affair.

    Args:
        device: where it would train; None asks for packages only. A GPU that does not tell its capability is taken for a new one.
    """
    precision = PRECISIONS[mode]
    package, least = precision.needs_package, precision.least_capability
    if package and importlib.util.find_spec(package) is None:
        return Lack(f"{package}, which is not installed", f"pip install {package}")
    if least and device and device.kind == "cuda" and device.capability and device.capability < least:
        needs = f"compute capability {_dotted(least)}: {device.name} has {_dotted(device.capability)}"
        return Lack(needs, f"humigence config set train.precision_mode {precision.otherwise}")
    return None


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def precision_fault(mode: PrecisionMode, device: Device | None) -> EnvironmentFault | None:
    """What `why_not` answers, as an error."""
    lack = why_not(mode, device)
    return EnvironmentFault(f"train.precision_mode: {mode} needs {lack.needs}", lack.remedy) if lack else None


def require_precision(mode: PrecisionMode, device: Device) -> None:
    """Raise the `EnvironmentFault` of `precision_fault` where there is one."""
    if fault := precision_fault(mode, device):
        raise fault


# ------------------------------------------------------------------------------------------------- types and bytes


def compute_dtype(precision_mode: PrecisionMode, device: Device) -> ComputeDtype:
    """What the matrix products are computed in.

    On a GPU bfloat16 where it has it (capability 8), else float16. On a CPU with bfloat16 units bfloat16 too (NF4 trains 1.4
    times as fast in two thirds of the memory, measured on SmolLM2), but where the mode is faster in 32 bits.
    """
    precision = PRECISIONS[precision_mode]
    if device.kind == "cpu":
        return "bfloat16" if device.bfloat16 and precision.cpu_bfloat16 else "float32"
    return precision.gpu_dtype if (device.capability or BFLOAT16_CAPABILITY) >= BFLOAT16_CAPABILITY else "float16"


def weight_bytes(
    shape: ModelShape, precision_mode: PrecisionMode, compute_dtype: ComputeDtype, weights: Weights | None = None
) -> int:
    """Bytes of the frozen base. What is no linear layer (embeddings, the head, norms, experts) stays in the compute type whatever
    the mode, but with float16 in 32 bits.

    Args:
        weights: as they were counted on the model; None where only its shape is known.
    """
    precision, wide = PRECISIONS[precision_mode], stream_bytes(compute_dtype)
    if weights is None:
        other = shape.embedding_parameters + shape.norm_parameters + shape.expert_parameters
        weights = Weights(shape.linear_parameters, shape.linear_outputs, 0, 0, other)
    if precision.dtype:
        return DTYPE_BYTES[precision.dtype] * (weights.quantized + weights.linear) + wide * weights.other
    scales = precision.output_bytes * weights.outputs
    return int(weights.quantized * precision.weight_bytes) + scales + wide * (weights.linear + weights.other)


def stream_bytes(compute_dtype: ComputeDtype) -> int:
    """Bytes of a number that passes from layer to layer: with float16 it begins as a 32-bit embedding and stays one."""
    return DTYPE_BYTES["bfloat16" if compute_dtype == "bfloat16" else "float32"]
