"""The frozen base model in a precision mode.

The precision mode says how the weights of the frozen linear layers are held: 4-bit NF4 with double quantization (Dettmers et al.
2023), 8 bits, or 16 bits. Embeddings, norms and the head are never quantized. What the matrix products are computed in is
another choice (`planning.compute_dtype`); the model carries it, so that training, evaluation and generation agree.

Safetensors and GGUF only: no pickle is read and no code of a model repository runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.base_model.architecture import source_at
from pipeline.base_model.gguf_reader import read_once
from pipeline.base_model.precision import PRECISIONS, SMALLEST, ComputeDtype, Precision, weight_bytes
from pipeline.base_model.precision import compute_dtype as compute_dtype_for
from pipeline.base_model.shape import checked_shape, read_shape
from pipeline.common.cache import forget
from pipeline.common.errors import BadInput, first_line
from pipeline.common.files import read_json
from pipeline.common.text import size
from pipeline.config.schema import PrecisionMode
from pipeline.modeling import quantized_copy
from pipeline.modeling.gguf_config import gguf_config, require_every_tensor
from pipeline.modeling.import_bitsandbytes import import_bitsandbytes
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.modeling.loading_progress import Progress, loading_told
from pipeline.modeling.rotary import rotate_by_own_length
from pipeline.modeling.widened_linear import WidenedLinear
from pipeline.runs.progress import no_phase
from pipeline.system.gpu import Device
from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, is_out_of_memory, unless_short

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

# What a damaged or unknown model makes transformers, safetensors and gguf raise.
_LOAD_ERRORS = (
    SafetensorError, OSError, ValueError, LookupError, NotImplementedError, TypeError, AttributeError, ArithmeticError,
    AssertionError, RecursionError, ImportError, StrictDataclassError,
)  # fmt: skip


def load_base(
    base: BaseModel,
    precision_mode: PrecisionMode,
    device: Device,
    *,
    compute_dtype: str | None = None,
    attention: str = "sdpa",
    progress: Progress = no_phase,
) -> PreTrainedModel:
    """The base model on `device`, every weight frozen, its key-value cache off.

    Args:
        compute_dtype: "float32", "bfloat16" or "float16"; None for what a plan would choose here.
        attention: transformers' name of the attention implementation; sdpa stands for the best that the model's class has.
        progress: told how far the weights are.

    Raises:
        BadInput: the files are damaged, incomplete, already quantized or of an architecture that can't be trained.
        OutOfMemory: the weights don't fit, not even with everything given back that nobody refers to.
    """
    facts = architecture_of(source_at(base.path), base.name, lambda: checked_shape(base))
    if attention == "sdpa" and attention not in facts.attention:
        attention = facts.attention[0]  # what its class has
    checked_shape(base)  # the model is made as its config says, so what that says has to be true
    compute = getattr(torch, compute_dtype or compute_dtype_for(precision_mode, device))
    for _ in range(2):  # the model that trained may still be lying about
        with loading_told(progress, f"reading {'and quantizing ' * PRECISIONS[precision_mode].quantized}weights"):
            model = unless_short(lambda: _loaded(base, precision_mode, device, compute, attention))
        if model is not NO_ROOM:
            return model
    raise _does_not_fit(base, precision_mode, device, compute_dtype_for(precision_mode, device))


def _does_not_fit(base: BaseModel, precision_mode: PrecisionMode, device: Device, compute: ComputeDtype) -> OutOfMemory:
    needed = weight_bytes(read_shape(base), precision_mode, compute)
    free = f" and {size(device.free_bytes)} were free before" if device.free_bytes else ""
    bits = PRECISIONS[SMALLEST].bits
    smaller = "" if precision_mode == SMALLEST else f" or {bits}-bit weights (train.precision_mode {SMALLEST})"
    return OutOfMemory(
        f"{base.name} does not fit into the memory of {device.name}: its weights take about {size(needed)}{free}",
        f"wait for what else runs there, or choose another device (compute.gpu), a smaller base model{smaller}",
    )


def _loaded(
    base: BaseModel, precision_mode: PrecisionMode, device: Device, compute: torch.dtype, attention: str
) -> PreTrainedModel:
    precision = PRECISIONS[precision_mode]
    options: dict[str, Any] = {
        "dtype": getattr(torch, precision.dtype) if precision.dtype else _beside_linear(compute),
        "quantization_config": _quantization(precision, compute),
        "device_map": {"": device.torch_device},
        "attn_implementation": attention,
        "output_loading_info": True,
    }
    transformers_logging.disable_progress_bar()
    import_bitsandbytes()
    model = _read_quantized(base, precision, options, compute, device) if precision.quantized else _read_base(base, options)
    model.requires_grad_(False)
    _keep_weights_as_packed(model)
    rotate_by_own_length(model)
    model.config.use_cache = False
    model.name_or_path = model.config.name_or_path = str(base.path)
    if not precision.quantized:
        _widen_what_is_not_linear(model, _beside_linear(compute))
        if compute == torch.float32:
            _widen_linear_layers(model)
    if compute != torch.float32:
        _compute_in(model, compute, device)
    return model


def _beside_linear(compute: torch.dtype) -> torch.dtype:
    """What embeddings and norms are held in.

    With float16 compute they stay in 32 bits: sums along the layers of models trained in bfloat16 exceed its largest number.
    """
    return torch.bfloat16 if compute == torch.bfloat16 else torch.float32


def _quantization(precision: Precision, compute: torch.dtype) -> BitsAndBytesConfig | None:
    # On a CPU it says at its import (by peft too) that a kernel from the hub is not installed; its own does the work. With
    # 8-bit weights it says at each product of each layer that the input is rounded to float16: hundreds of lines a step.
    for name in ("backends.cpu.ops", "autograd._functions"):
        logging.getLogger(f"bitsandbytes.{name}").setLevel(logging.ERROR)
    if not precision.quantized:
        return None
    return BitsAndBytesConfig(**precision.quantization, bnb_4bit_compute_dtype=compute)


# --------------------------------------------------------------------------------------------------- reading


def _read_base(base: BaseModel, options: dict[str, Any]) -> PreTrainedModel:
    return _from_gguf(base, options) if base.kind == "gguf" else _from_folder(base, options)


def _read_quantized(
    base: BaseModel, precision: Precision, options: dict[str, Any], compute: torch.dtype, device: Device
) -> PreTrainedModel:
    """Its copy, where one was kept; else the model, and a copy for the next time, where that was long."""
    folder = quantized_copy.folder_of(base, precision.quantization, options["dtype"], compute, device.kind)
    if quantized_copy.is_whole(folder):
        own = {name: value for name, value in options.items() if name != "quantization_config"}  # it stands in the copy
        try:
            model = _read(base, str(folder), use_safetensors=True, **own)
            quantized_copy.align(folder, model)
            return model
        except BadInput:  # written by what we take for the same libraries
            forget(folder)
    started = time.perf_counter()
    model = _read_base(base, options)
    if time.perf_counter() - started > quantized_copy.WORTH_SECONDS:
        quantized_copy.keep(folder, model)
    return model


def _from_folder(base: BaseModel, options: dict[str, Any]) -> PreTrainedModel:
    if "quantization_config" in read_json(base.path / "config.json"):
        raise BadInput(f"{base.name} is quantized already", "choose the model it was made from: an adapter needs its own weights")
    return _read(base, str(base.path), use_safetensors=True, **options)


def _from_gguf(base: BaseModel, options: dict[str, Any]) -> PreTrainedModel:
    """A GGUF file's weights, de-quantized, in a plain model.

    transformers marks a model it reads from a GGUF file as quantized by GGUF, and such a model takes no other quantization and no
    training; its weights in a new model of the same config are like any other's.
    """
    read = read_gguf(base)
    weights, config, cls = read.state_dict(), read.config, type(read)
    del read
    with _as_unreadable(base):
        model, info = cls.from_pretrained(None, config=config, state_dict=weights, **options)
    return _complete(base, model, info)


def read_gguf(base: BaseModel) -> PreTrainedModel:
    """The model in a GGUF file, de-quantized to 32 bits in this machine's memory, with the config of a plain model.

    Raises:
        BadInput: the file is damaged, lacks a weight, has something that would not be used, or is of an architecture that
            transformers doesn't know.
    """
    transformers_logging.disable_progress_bar()
    with _as_unreadable(base):
        config = gguf_config(base.path, base.name)
    with read_once():
        folder, options = str(base.path.parent), {"config": config, "dtype": torch.float32, "output_loading_info": True}
        model = _read(base, folder, gguf_file=base.path.name, **options)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _read(base: BaseModel, folder: str, **options: Any) -> PreTrainedModel:
    with _as_unreadable(base):
        model, info = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    _complete(base, model, info)
    if "gguf_file" in options:
        require_every_tensor(base.path, base.name, model, info["unexpected_keys"])
    return model


@contextmanager
def _as_unreadable(base: BaseModel) -> Iterator[None]:
    """What transformers raises over a model's files as the one error that a person reads."""
    try:
        yield
    except _LOAD_ERRORS as error:
        raise _unreadable(base, error) from error
    except RuntimeError as error:
        if "mismatched" not in str(error):  # memory, the GPU
            raise
        raise _unreadable(base, RuntimeError("weights are of other shapes than the config says")) from error


def _complete(base: BaseModel, model: PreTrainedModel, info: dict[str, Any]) -> PreTrainedModel:
    """Refuse a model whose missing weights transformers would have made up."""
    missing, mismatched = sorted(info["missing_keys"]), sorted(str(key) for key in info["mismatched_keys"])
    if missing or mismatched:
        first = (missing or mismatched)[0]
        raise BadInput(
            f"{base.name}: {len(missing) + len(mismatched)} weights are missing or of another shape, {first} first",
            "humigence model check; humigence model download fetches it again",
        )
    return model


def _unreadable(base: BaseModel, error: Exception) -> Exception:
    if is_out_of_memory(error):
        return error
    return BadInput(f"{base.name}: the weights in {base.path} can't be read: {first_line(error)}", "humigence model check")


# ------------------------------------------------------------------------------------------------ computing


def _keep_weights_as_packed(model: PreTrainedModel) -> None:
    """On a CPU with bfloat16 units bitsandbytes packs NF4 weights anew at the first product in evaluation mode, and rounds their
    scales to bfloat16 for good: a held-out loss in the middle of training would change the model that is trained."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _widen_what_is_not_linear(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Embeddings, norms and the head in `dtype`; a head tied to the embedding stays tied."""
    head = model.get_output_embeddings()
    for module in model.modules():
        if module is head or not (isinstance(module, nn.Linear) and _is_a_product(module)):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def _widen_linear_layers(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not head and _is_a_product(module):
            module.__class__ = WidenedLinear


@torch.no_grad()
def _is_a_product(module: nn.Linear) -> bool:
    """Whether a linear layer computes what torch's own does; some models have a class of their own that does."""
    if type(module) is nn.Linear:
        return True
    ones = torch.ones(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    return torch.allclose(module(ones), nn.functional.linear(ones, module.weight, module.bias), rtol=1e-2)


def _compute_in(model: PreTrainedModel, dtype: torch.dtype, device: Device) -> None:
    # On the model itself, so that nobody who calls it can forget: training, held-out loss and generation compute alike.
    model.forward = torch.autocast(device.kind, dtype=dtype)(model.forward)


# ------------------------------------------------------------------------------------------------ the adapter
