"""The weights of adapter and base, some rows at a time in 32 bits, and which of them are linear layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import Changes, Tally, weight_of
from pipeline.export.merge.stored import stored_weights, summed_pieces

_HINT = "take it out of export.formats; merged is made of every model"


@dataclass(frozen=True)
class Weight:
    """A weight of the model.

    Attributes:
        shape: as in its file.
        dtype: as safetensors calls it, of its file.
        pieces: its rows from the first to the last, (rows, numbers of a row), with the adapter's sum; asked for once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    pieces: Callable[[], Iterator[NDArray[np.float32]]]


@dataclass(frozen=True)
class Source:
    """A model to be written.

    Attributes:
        weights: in the order of the files.
        linear: names of weights of linear layers of the language model, without the head.
        kept: names of modules whose linear layers stay as they are.
        config: config.json.
        dtype: what is not quantized is held in, as safetensors calls it.
    """

    weights: tuple[Weight, ...]
    linear: frozenset[str]
    kept: tuple[str, ...]
    config: dict[str, Any]
    dtype: str


@contextmanager
def opened(base: BaseModel, adapter: Adapter) -> Iterator[Source]:
    """Base and adapter as one model, read as it is written.

    Raises:
        BadInput: the adapter belongs to another model, the base is quantized, or has layers that are not written so.
        OutOfMemory: there is no room for a GGUF file's weights.
    """
    with ExitStack() as files:
        yield _of_gguf(base, adapter) if base.kind == "gguf" else _of_folder(base, adapter, files)


def _of_folder(base: BaseModel, adapter: Adapter, files: ExitStack) -> Source:
    config = read_json(base.path / "config.json")
    if "quantization_config" in config:
        raise BadInput(f"{base.name} is quantized already", "merge into the model it was made from")
    stored = stored_weights(base.weight_files(), files)
    sizes = {name: each.shape for name, each in stored.items()}
    changes, tally = Changes(adapter, sizes), Tally()
    linear, kept = _linear_layers(base.path, sizes, base.name)
    weights = tuple(
        Weight(name, each.shape, each.dtype, partial(each.pieces, changes.of(name), tally)) for name, each in stored.items()
    )
    types = [each.dtype for each in weights if each.name in linear]
    return Source(weights, linear, kept, config, "F16" if types and set(types) == {"F16"} else "BF16")


def _of_gguf(base: BaseModel, adapter: Adapter) -> Source:
    from pipeline.export.merge.gguf_base import loaded

    model = loaded(base)
    model.config.architectures = [type(model).__name__]
    tied = set(model.all_tied_weights_keys)
    held = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    changes, tally = Changes(adapter, {name: list(tensor.shape) for name, tensor in held.items()}), Tally()
    linear, kept = _linear_in(model, held, base.name)

    def weight(name: str) -> Weight:
        values = held[name].numpy()
        rows = values.reshape(values.shape[0], -1)
        outputs, inputs = rows.shape
        pieces = partial(summed_pieces, name, lambda begin, end: rows[begin:end], outputs, inputs, changes.of(name), tally)
        return Weight(name, tuple(values.shape), "F32", pieces)

    return Source(tuple(weight(name) for name in held), linear, kept, model.config.to_dict(), "BF16")


def _linear_layers(folder: Path, names: Mapping[str, Any], title: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names of weights of linear layers, and of modules around the language model, asked of the model without its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return _linear_in(model, names, title)


def _linear_in(model: Any, names: Mapping[str, Any], title: str) -> tuple[frozenset[str], tuple[str, ...]]:
    from torch import nn

    head, found = model.get_output_embeddings(), set[str]()
    kept = ["lm_head"]
    for name, module in model.named_modules():
        if type(module).__name__ == "Conv1D":
            raise BadInput(f"{title}: its layers hold their weights the other way round, and are not written in 8 bits", _HINT)
        if not isinstance(module, nn.Linear) or module is head:
            continue
        outside = next((part for part in name.split(".") if part.startswith(("vision", "audio", "multi_modal"))), None)
        if outside:
            kept += [] if outside in kept else [outside]
            continue
        weight = weight_of(name, names)
        if weight is None:
            raise BadInput(f"{title}: its files have no weight of {name}, and it is not written in 8 bits", _HINT)
        found.add(weight)
    return frozenset(found), tuple(kept)
