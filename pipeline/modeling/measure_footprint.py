"""What a model's layers save for their backward pass, asked of its own classes: a forward pass on tensors without memory.

torch's fake tensors know shapes, types and strides, and run the model's code with autograd and autocast as if they were real:
what autograd saves of them is what it will save of real ones. Two lengths of text give what grows with its tokens and what with
their square. A forward pass of a whole model takes a second and no memory.

Where a GPU differs, `fake_gpu` makes the CPU differ: autocast widens other operations there, and attention by offsets has a
kernel only there.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from pipeline.base_model import footprint as footprints
from pipeline.base_model.footprint import Footprint, Growth, LayerFootprint, Read, Weights
from pipeline.common.files import write_json
from pipeline.modeling import fake_gpu

# Tokens of the longer text, the other has half: multiples of the pieces in which state-space layers work through a text.
_LONG, _SHORTEST = 512, 64
# What a class that can't be run so raises; there the formula stays.
FAILURES = (
    RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ImportError,
    ArithmeticError, OSError, StrictDataclassError,
)  # fmt: skip


def footprint_of(config: Mapping[str, Any], *, device: str, compute_dtype: str, attention: str) -> dict[str, Footprint]:
    """A model's footprint by its key, measured once and then read; beside it what was measured before.

    Args:
        config: of its config.json, whole.
        device: "cuda" or "cpu".
        compute_dtype: "float32", "bfloat16" or "float16".
        attention: "sdpa", or "varlen"; a class that knows no sdpa attends as "eager" does.

    Raises:
        Exception: one of `FAILURES`: its class can't be run without weights.
    """
    model = meta_model(config)
    if attention == "sdpa" and not _knows_sdpa(model):
        attention = "eager"
    found = measured(model, device=device, compute_dtype=compute_dtype, attention=attention)
    name = footprints.key(device, compute_dtype, attention)
    footprints.store_footprint(config, name, found)
    return footprints.read_footprints(config) | {name: found}


def _knows_sdpa(model: Any) -> bool:
    try:
        return bool(model.get_correct_attn_implementation("sdpa", is_init_check=True) == "sdpa")
    except (ValueError, ImportError):
        return False


def meta_model(config: Mapping[str, Any]) -> Any:
    """The causal model of a config.json on the meta device, in 16 bits."""
    with tempfile.TemporaryDirectory() as folder:  # read as a file is: some numbers are written in words there
        write_json(Path(folder) / "config.json", dict(config))
        made = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16, trust_remote_code=False)


def measured(model: Any, *, device: str, compute_dtype: str, attention: str) -> Footprint:
    """The footprint of a causal model of transformers on the meta device. Its weights become fake, its attention this one.

    Args:
        device, compute_dtype, attention: as for `footprint_of`.
    """
    fake_gpu.register()
    weights = _weights(model)  # before it is fake
    compute = getattr(torch, compute_dtype)
    model.requires_grad_(False)
    model.set_attn_implementation(fake_gpu.BY_OFFSETS if attention == "varlen" else attention)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16 if compute == torch.bfloat16 else torch.float32)
    longest = max(
        _SHORTEST, min(_LONG, getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", 0) or _LONG)
    )
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # it reports what we catch
    with FakeTensorMode(allow_non_fake_inputs=True), fake_gpu.NumbersOfFakes():  # type: ignore[no-untyped-call]
        model.to_empty(device="cpu").train()
        short, long = (_pass(model, tokens, device, compute) for tokens in (longest // 2, longest))
    return replace(_growth(short, long), weights=weights)


# ------------------------------------------------------------------------------------------------- one forward pass


@dataclass
class _Layer:
    """What happened in one decoder layer.

    Attributes:
        like: number of the layer that was run in its place.
        enters: bytes of its input.
        reads: of each linear layer (name, inputs, outputs, number of the storage read, type).
    """

    like: int
    enters: int = 0
    reads: list[tuple[str, int, int, int, torch.dtype]] = field(default_factory=list)


@dataclass
class _Pass:
    """A forward pass: the bytes of each saved storage, and which layers saved it; -1 is outside of all."""

    tokens: int
    compute: torch.dtype
    layers: list[_Layer]
    bytes: dict[int, int] = field(default_factory=dict)
    saved_by: dict[int, set[int]] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)  # storages: their numbers are not given to others

    def saw(self, tensor: torch.Tensor, layer: int) -> None:
        storage = tensor.untyped_storage()
        number = id(storage)
        if number not in self.bytes:
            self.alive.append(storage)
            self.bytes[number] = storage.nbytes()
            self.saved_by[number] = set()
        self.saved_by[number].add(layer)


def _pass(model: Any, tokens: int, device: str, compute: torch.dtype) -> _Pass:
    blocks = _decoder_layers(model)
    seen = _Pass(tokens, compute, [_Layer(like) for like in _representatives(blocks)])
    owned = {id(each.untyped_storage()) for each in (*model.parameters(), *model.buffers())}
    inside: list[int] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor.untyped_storage()) not in owned:
            seen.saw(tensor, inside[-1] if inside else -1)
        return tensor

    with ExitStack() as stack:
        for hook in _hooks(model, blocks, seen, inside):
            stack.callback(hook.remove)
        stack.enter_context(_leaving_out(blocks, seen))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor))
        stack.enter_context(fake_gpu.autocast(device, compute))
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        model(input_ids=ids, position_ids=torch.arange(tokens)[None], use_cache=False)
    return seen


def _decoder_layers(model: Any) -> list[nn.Module]:
    """What is computed again, each by itself, where activations are recomputed; those of towers are not called and stay empty."""
    return [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]


def _representatives(blocks: list[nn.Module]) -> list[int]:
    """For each layer the one that runs in its place: of a kind the first two run, and the second stands for the others. The first
    of all is where the gradients end; and what two layers save is what they share, the angles of positions for one."""
    alike: dict[Any, list[int]] = {}
    for number, block in enumerate(blocks):
        alike.setdefault(_kind(block), []).append(number)
    likes = {number: members[min(place, 1)] for members in alike.values() for place, number in enumerate(members)}
    return [likes[number] for number in range(len(blocks))]


def _kind(block: nn.Module) -> Any:
    """Classes, sizes and settings of a layer and all in it, but for its number."""
    return tuple(
        (
            name,
            type(module),
            tuple(sorted(_settings(module))),
            tuple((each, p.shape) for each, p in module._parameters.items() if p is not None),
        )
        for name, module in block.named_modules()
    )


def _settings(module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        if isinstance(value, (bool, int, float, str)) and not name.startswith("_") and "idx" not in name and "index" not in name:
            yield name, repr(value)


@contextmanager
def _leaving_out(blocks: list[nn.Module], seen: _Pass) -> Iterator[None]:
    """Layers that are like one before them hand on what enters: what they would save is known."""
    outputs: dict[int, Any] = {}
    hooks = []

    def remember(number: int) -> Callable[..., None]:
        return lambda _module, _args, output: outputs.__setitem__(number, output)

    def handing_on(like: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            before = outputs[like]
            hidden = args[0] if args else kwargs["hidden_states"]
            return hidden if isinstance(before, torch.Tensor) else (hidden, *before[1:])

        return forward

    replaced = [block for number, block in enumerate(blocks) if seen.layers[number].like != number]
    try:
        for number, block in enumerate(blocks):
            like = seen.layers[number].like
            if like == number:
                hooks.append(block.register_forward_hook(remember(number)))
            else:
                block.forward = handing_on(like)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for block in replaced:
            del block.forward


def _hooks(model: Any, blocks: list[nn.Module], seen: _Pass, inside: list[int]) -> Iterator[Any]:
    numbers = {id(block): number for number, block in enumerate(blocks)}

    def enter(block: nn.Module, args: Any, kwargs: Any) -> None:
        inside.append(numbers[id(block)])
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.layers[inside[-1]].enters = hidden.nbytes

    def leave(*_: Any) -> None:
        inside.pop()

    def read(name: str, size: tuple[int, int]) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: torch.Tensor) -> None:
            if not inside:
                return
            storage = args[0].untyped_storage()
            seen.alive.append(storage)
            seen.layers[inside[-1]].reads.append((name, *size, id(storage), args[0].dtype))
            if not output.requires_grad:  # an adapter here is where the first gradients come from
                output.requires_grad_(True)

        return hook

    for path, module in model.named_modules():
        if id(module) in numbers:
            yield module.register_forward_pre_hook(enter, with_kwargs=True)
            yield module.register_forward_hook(leave)
        elif isinstance(module, (nn.Linear, Conv1D)):
            outputs, inputs = module.weight.shape if isinstance(module, nn.Linear) else reversed(module.weight.shape)
            yield module.register_forward_hook(read(path.rpartition(".")[2], (inputs, outputs)))


# ------------------------------------------------------------------------------------------------- what grows how


def _growth(short: _Pass, long: _Pass) -> Footprint:
    saved = [_saved_by_layer(each) for each in (short, long)]

    def fitted(of_short: float, of_long: float) -> Growth:
        return _fitted(of_short, of_long, long.tokens)

    kinds: Counter[LayerFootprint] = Counter()
    for each in long.layers:
        ran = long.layers[each.like]
        if ran.enters:
            enters = fitted(short.layers[each.like].enters, ran.enters)
            kinds[LayerFootprint(0, fitted(saved[0][each.like], saved[1][each.like]), enters, _reads(ran, long))] += 1
    layers = tuple(replace(kind, count=count) for kind, count in kinds.items())
    return Footprint(layers, fitted(saved[0][-1], saved[1][-1]))


def _saved_by_layer(seen: _Pass) -> Counter[int]:
    """Bytes each layer saved alone; what several saved, or none of them, stands under -1."""
    found: Counter[int] = Counter()
    for number, layers in seen.saved_by.items():
        found[next(iter(layers)) if len(layers) == 1 else -1] += seen.bytes[number]
    return found


def _fitted(short: float, long: float, tokens: int) -> Growth:
    """Bytes at half as many tokens and at `tokens`: token × n + pair × n² through both."""
    pair = (long / tokens - short / (tokens / 2)) / (tokens / 2)
    if pair * tokens < 0.01 * long / tokens:  # what does not grow at all looks like a little less than nothing
        return Growth(long / tokens)
    return Growth(long / tokens - pair * tokens, pair)


def _reads(layer: _Layer, seen: _Pass) -> tuple[Read, ...]:
    order: dict[int, int] = {}
    return tuple(
        Read(name, inputs, outputs, order.setdefault(storage, len(order)), storage in seen.bytes and dtype == seen.compute)
        for name, inputs, outputs, storage, dtype in layer.reads
    )


# ------------------------------------------------------------------------------------------------- weights


def _weights(model: Any) -> Weights:
    """Counted as `modeling.load` and bitsandbytes hold them."""
    wide = [*(model._keep_in_fp32_modules or []), *(getattr(model, "_keep_in_fp32_modules_strict", None) or [])]
    skipped = [*get_keys_to_not_convert(model), *wide]
    head = model.get_output_embeddings()
    quantized, linear = [], 0
    for path, module in model.named_modules():
        if type(module) not in (nn.Linear, Conv1D) or module is head:
            continue
        if should_convert_module(path, skipped):
            quantized.append(module.weight)
        else:
            linear += module.weight.numel()
    sizes = [each.numel() for each in quantized]
    # A `Conv1D` holds (inputs, outputs); its outputs are not told apart here, for scales of 4 bytes each are nothing.
    outputs = sum(each.shape[0] for each in quantized)
    everything = sum(each.numel() for each in model.parameters())
    return Weights(sum(sizes), outputs, max(sizes, default=0), linear, everything - sum(sizes) - linear)
