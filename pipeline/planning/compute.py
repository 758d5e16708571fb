"""How a run computes on a device: in which type, with which kernels, and how packed documents attend. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.base_model.families import family_of
from pipeline.base_model.precision import ComputeDtype, compute_dtype
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.system.gpu import Device

Kernels = Literal["fused", "plain"]

_KERNELS_NEED = "an NVIDIA GPU of capability 8.0 or more"


@dataclass(frozen=True)
class Computing:
    """How a run computes.

    Attributes:
        dtype: of the matrix products.
        kernels: whose layers are trained: our fused ones, or "plain", the model's own.
        attention: how the model's own layers keep packed documents apart, see `training.attention`.
    """

    dtype: ComputeDtype
    kernels: Kernels
    attention: str


def computing(config: Config, shape: ModelShape, device: Device, reasons: dict[str, str]) -> Computing:
    """The choices for this device, each with its reason.

    Args:
        shape: of the base model.
        reasons: choice -> why, added to, for a person to read.

    Raises:
        BadInput: something was set that does not work here.
    """
    dtype = compute_dtype(config.train.precision_mode, device)
    kernels = _kernels(config, shape, device, dtype, reasons)
    if kernels == "fused":
        return Computing(dtype, kernels, "sdpa")  # of generation; training has its own
    return Computing(dtype, kernels, _attention(config, shape, device, reasons))


def fused_works(config: Config, shape: ModelShape, device: Device) -> bool:
    """Whether a plan for this model and device would choose the fused kernels. Raises nothing where they can't be."""
    wanted, attention = config.train.kernels, config.train.attention
    dtype = compute_dtype(config.train.precision_mode, device)
    return wanted != "plain" and attention == "auto" and not _no_fused(shape, device, dtype)


def _kernels(config: Config, shape: ModelShape, device: Device, dtype: ComputeDtype, reasons: dict[str, str]) -> Kernels:
    wanted, problem = config.train.kernels, _no_fused(shape, device, dtype)
    if wanted == "fused" and config.train.attention != "auto":
        raise BadInput("train.attention: the fused kernels have their own attention", "humigence config set train.attention auto")
    if wanted == "fused" and problem:
        raise BadInput(f"train.kernels: fused does not work here: {problem}", "humigence config set train.kernels auto")
    if wanted != "auto":
        reasons["kernels"] = "set by you (train.kernels)"
        return wanted
    if config.train.attention != "auto":
        reasons["kernels"] = "the model's own layers, for the attention you set (train.attention)"
        return "plain"
    reasons["kernels"] = f"the model's own layers: {problem}" if problem else "fused layers with their backward pass written out"
    return "plain" if problem else "fused"


def _runs_kernels(device: Device) -> bool:
    """Whether a GPU is known to run our fused layers and torch's flash attention."""
    return device.kind == "cuda" and (device.capability or (0, 0)) >= (8, 0)


def _no_fused(shape: ModelShape, device: Device, dtype: ComputeDtype) -> str:
    if not _runs_kernels(device):
        return f"the fused ones need {_KERNELS_NEED}"
    if dtype != "bfloat16":
        return f"the fused ones compute in bfloat16, not in {dtype}"
    head_dims = family_of(shape.model_type).fused_head_dims
    if not head_dims:
        return f"the fused ones are not written for {shape.model_type} models"
    return "" if shape.head_dim in head_dims else f"the fused ones have no kernel for heads of {shape.head_dim}"


def _attention(config: Config, shape: ModelShape, device: Device, reasons: dict[str, str]) -> str:
    """ "varlen" where torch's flash kernel can: an NVIDIA GPU of capability 8, heads it has a kernel for, 16-bit compute."""
    wanted = config.train.attention
    problem = _no_varlen(shape, device)
    if wanted == "varlen" and problem:
        raise BadInput(f"train.attention: varlen does not work here: {problem}", "humigence config set train.attention auto")
    if wanted != "auto":
        reasons["attention"] = "set by you (train.attention)"
        return wanted
    reasons["attention"] = problem or "documents attend by their offsets, without a mask"
    return "sdpa" if problem else "varlen"


def attends_by_offsets(config: Config, shape: ModelShape, device: Device) -> bool:
    """Whether a plan with the model's own layers would choose "varlen"."""
    return config.train.attention != "sdpa" and not _no_varlen(shape, device)


def _no_varlen(shape: ModelShape, device: Device) -> str:
    if not _runs_kernels(device):
        return f"it needs {_KERNELS_NEED}"
    if not family_of(shape.model_type).plain_attention:
        return f"not proved for {shape.model_type} models"
    return "" if shape.head_dim % 8 == 0 and shape.head_dim <= 256 else f"no kernel for heads of {shape.head_dim}"
