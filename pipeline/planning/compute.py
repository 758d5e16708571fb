"""How a run computes on a device: in which type, with which kernels, and how packed documents attend. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from pipeline.base_model.families import family_of
from pipeline.base_model.precision import ComputeDtype, compute_dtype
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.planning.proved import Refused
from pipeline.system.gpu import Device

Kernels = Literal["fused", "plain"]
Isolation = Literal["positions", "mask", "indices", "rows"]
"""How documents are kept apart: by positions that begin again at each; by those and a mask over all pairs of tokens, for
attention that does not look at them; by those and the number of each token's document, for layers that carry a state; or by rows,
one to each."""

# Libraries with whose kernels a hybrid's layers take the number of each token's document. Whether they do, the proof finds.
_KEEPERS = ("mamba_ssm", "causal_conv1d", "fla")
_NOTHING_REFUSED = Refused()
_HEAD_DIMS = (32, 64, 128, 256)  # those of `training.fused.triton_attention`
_KERNELS_NEED = "an NVIDIA GPU of capability 8.0 or more"


@dataclass(frozen=True)
class Computing:
    """How a run computes.

    Attributes:
        dtype: of the matrix products.
        kernels: whose layers are trained: our fused ones, or "plain", the model's own.
        attention: how the model's own layers keep packed documents apart, see `training.attention`.
        isolation: what is packed, and how it is handed to the model.
    """

    dtype: ComputeDtype
    kernels: Kernels
    attention: str
    isolation: Isolation


def computing(
    config: Config,
    shape: ModelShape,
    device: Device,
    reasons: dict[str, str],
    refused: Refused = _NOTHING_REFUSED,
) -> Computing:
    """The choices for this device, each with its reason.

    Args:
        shape: of the base model.
        reasons: choice -> why, added to, for a person to read.
        refused: what a proof on the loaded model found.

    Raises:
        BadInput: something was set that does not work here.
    """
    dtype = compute_dtype(config.train.precision_mode, device)
    kernels = _kernels(config, _not_fused(config) or _no_fused(shape, device, dtype) or refused.fused, reasons)
    if kernels == "fused":
        # Attention is of generation; training has its own.
        return Computing(dtype, kernels, "sdpa", "positions" if config.data.packing else "rows")
    problem = no_packing(shape, refused)
    if problem and config.data.packing:
        reasons["packing"] = problem
    attention = _attention(config, shape, device, reasons, problem)
    return Computing(dtype, kernels, attention, "positions" if config.data.packing and not problem else "rows")


def no_packing(shape: ModelShape, refused: Refused) -> str:
    """Why documents can't share a row of this model's own layers; empty where they can, as far as is known."""
    known = shape.packed_see_each_other and not any(find_spec(name) for name in _KEEPERS)
    if refused.packing or not known:
        return refused.packing
    return f"packed conversations see each other in the layers of {shape.model_type} models"


def fused_works(config: Config, shape: ModelShape, device: Device) -> bool:
    """Whether a plan for this model and device would choose the fused kernels. Raises nothing where they can't be."""
    wanted, attention = config.train.kernels, config.train.attention
    dtype = compute_dtype(config.train.precision_mode, device)
    plain = wanted == "plain" or attention != "auto" or _not_fused(config)
    return not plain and not _no_fused(shape, device, dtype)


def _not_fused(config: Config) -> str:
    """What of the settings the fused layers don't have."""
    lora = config.train.lora
    asked = [name for name, on in (("rsLoRA", lora.rslora), ("DoRA", lora.dora)) if on]
    return f"the fused ones have no {' and no '.join(asked)}" if asked else ""


def _kernels(config: Config, problem: str, reasons: dict[str, str]) -> Kernels:
    wanted = config.train.kernels
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
    return shape.described.problem or no_kernel(shape.head_dim)


def no_kernel(head_dim: int) -> str:
    """Why the fused layers can't attend with heads of so many features on a GPU; empty where they can."""
    return "" if head_dim in _HEAD_DIMS else f"the fused ones have no kernel for heads of {head_dim}"


def _attention(config: Config, shape: ModelShape, device: Device, reasons: dict[str, str], apart: str) -> str:
    """ "varlen" where torch's flash kernel can: an NVIDIA GPU of capability 8, heads it has a kernel for, 16-bit compute.

    Not where documents see each other (`apart` says why): it makes one row of all.
    """
    wanted = config.train.attention
    problem = _no_varlen(shape, device) or (apart and f"one row holds one conversation: {apart}")
    if wanted == "varlen" and problem:
        raise BadInput(f"train.attention: varlen does not work here: {problem}", "humigence config set train.attention auto")
    facts = shape.architecture
    if facts and "sdpa" not in facts.attention:
        reasons["attention"] = f"{facts.class_name} has no sdpa; the scores of all pairs of tokens are kept"
        return facts.attention[0]
    if wanted != "auto":
        reasons["attention"] = "set by you (train.attention)"
        return wanted
    reasons["attention"] = problem or "documents attend by their offsets, without a mask"
    return "sdpa" if problem else "varlen"


def attends_by_offsets(config: Config, shape: ModelShape, device: Device) -> bool:
    """Whether a plan with the model's own layers would choose "varlen"."""
    return config.train.attention != "sdpa" and not _no_varlen(shape, device)


def layers_run_as(config: Config, shape: ModelShape, device: Device) -> tuple[str, ComputeDtype, str]:
    """(kind of the device, compute type, attention) of the model's own layers: what `ModelShape.footprint` is asked for."""
    attention = "varlen" if attends_by_offsets(config, shape, device) else "sdpa"
    return device.kind, compute_dtype(config.train.precision_mode, device), attention


def _no_varlen(shape: ModelShape, device: Device) -> str:
    if not _runs_kernels(device):
        return f"it needs {_KERNELS_NEED}"
    if not family_of(shape.model_type).plain_attention:
        return f"not proved for {shape.model_type} models"
    return "" if shape.head_dim % 8 == 0 and shape.head_dim <= 256 else f"no kernel for heads of {shape.head_dim}"
