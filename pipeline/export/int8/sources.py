"""The weights of adapter and base, some rows at a time in 32 bits, and which of them are linear layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.export.merge.bfloat16 import BYTES, NAMES, widened
from pipeline.export.merge.lora_weights import Adapter, LowRank
from pipeline.export.merge.safetensors import Changes, Tally, merged_pieces, weight_of

_PIECE = 1 << 21  # weights that are computed with at once
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
    entries: dict[str, tuple[dict[str, Any], int, BinaryIO]] = {}
    for path in base.weight_files():
        header, start = safetensors_header(path)
        file = files.enter_context(path.open("rb"))
        entries |= {name: (entry, start, file) for name, entry in header.items() if name != "__metadata__"}
    sizes = {name: entry["shape"] for name, (entry, _, _) in entries.items()}
    changes, tally = Changes(adapter, sizes), Tally()
    linear, kept = _linear_layers(base.path, sizes, base.name)
    weights = tuple(
        Weight(name, tuple(entry["shape"]), entry["dtype"], partial(_stored, name, entry, start, file, changes.of(name), tally))
        for name, (entry, start, file) in entries.items()
    )
    types = [each.dtype for each in weights if each.name in linear]
    return Source(weights, linear, kept, config, "F16" if types and set(types) == {"F16"} else "BF16")


def _stored(
    name: str, entry: dict[str, Any], start: int, file: BinaryIO, change: LowRank | None, tally: Tally
) -> Iterator[NDArray[np.float32]]:
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype not in NAMES:
        raise BadInput(f"merging {name}: it is of type {dtype}", f"choose a base model in {', '.join(NAMES.values())}")
    outputs, inputs = (shape[0], math.prod(shape[1:])) if shape else (1, 1)

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        size = inputs * BYTES[dtype]
        file.seek(start + entry["data_offsets"][0] + begin * size)
        data = file.read((end - begin) * size)
        if len(data) != (end - begin) * size:
            raise BadInput(f"{file.name} ends too early", "humigence model check; humigence model download fetches it again")
        return widened(data, dtype).reshape(end - begin, inputs)

    yield from _pieces(name, rows, outputs, inputs, change, tally)


def _pieces(
    name: str, rows: Callable[[int, int], NDArray[np.float32]], outputs: int, inputs: int, change: LowRank | None, tally: Tally
) -> Iterator[NDArray[np.float32]]:
    if change is not None:
        yield from (piece.reshape(-1, inputs) for piece in merged_pieces(name, change, rows, "F32", tally))
        return
    step = max(1, _PIECE // inputs)
    for begin in range(0, outputs, step):
        yield rows(begin, min(begin + step, outputs))


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
        pieces = partial(_pieces, name, lambda begin, end: rows[begin:end], len(rows), rows.shape[1], changes.of(name), tally)
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
