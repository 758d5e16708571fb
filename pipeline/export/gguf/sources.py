"""Where the tensors of a GGUF file come from: a base model's weights with the adapter's sums, some rows at a time, in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.gguf_families import GgufFamily
from pipeline.base_model.gguf_reader import read_once
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.export.gguf.metadata import head_dim, made_tensors
from pipeline.export.merge.lora_weights import Adapter, LowRank
from pipeline.export.merge.safetensors import Changes, Tally
from pipeline.export.merge.stored import Stored, stored_weights, summed_pieces

OUTSIDE = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.", "audio_tower.")
_NOT_WEIGHTS = ("rotary_emb.inv_freq", "attn.masked_bias", "attn.bias")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file that is to be written.

    Attributes:
        name: as llama.cpp calls it.
        shape: (outputs, inputs), or (numbers,).
        pieces: its rows from the first to the last, some at a time, (rows, inputs) each; asked for once.
    """

    name: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[np.float32]]]


def interleaved(rows: NDArray[np.float32], head: int) -> NDArray[np.float32]:
    """Whole heads' rows, those that lie half a head apart brought together: 0, h/2, 1, h/2 + 1 …

    Args:
        rows: (heads · head, inputs).
        head: features of a head.
    """
    return rows.reshape(-1, 2, head // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def is_interleaved(known: str, family: GgufFamily) -> bool:
    """Whether llama.cpp has the rows of this weight `interleaved`."""
    return family.interleaved and known.endswith(("attn_q.weight", "attn_k.weight"))


def of_language_model(name: str) -> str:
    """Without the modules around the language model of a multimodal one, in the two ways in which they are published."""
    return name.replace("language_model.model.", "model.").replace("model.language_model.", "model.")


# --------------------------------------------------------------------------------------------- from safetensors


def of_folder(
    base: BaseModel, adapter: Adapter | None, family: GgufFamily, config: Any, tally: Tally, files: ExitStack
) -> list[Tensor]:
    """The tensors of a model whose base is a Hugging Face folder.

    Args:
        adapter: None for the base alone.
        files: keeps the base's files open until the tensors are written.

    Raises:
        BadInput: the adapter belongs to another model, or llama.cpp has no place for a weight.
    """
    weights = stored_weights(base.weight_files(), files)
    changes = Changes(adapter, {name: each.shape for name, each in weights.items()}) if adapter else None
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.architecture.upper()], config.num_hidden_layers)
    found = [Tensor(each.name, each.values.shape, partial(_whole, each.values)) for each in made_tensors(config)]
    for name, stored in weights.items():
        if name.startswith(OUTSIDE) or name.endswith(_NOT_WEIGHTS) or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        known = names.get_name(of_language_model(name), (".weight", ".bias"))
        if known is None:
            raise BadInput(f"{base.name}: llama.cpp has no place for {name}", "take gguf out of export.formats")
        change = changes.of(name) if changes else None
        found.append(_tensor(known, stored, change, family, config, tally))
    return found


def _tensor(known: str, stored: Stored, change: LowRank | None, family: GgufFamily, config: Any, tally: Tally) -> Tensor:
    shape = stored.shape
    if len(shape) == 1:
        return Tensor(known, shape, partial(_vector, known, stored, family, config))
    pieces = partial(stored.pieces, change, tally)
    if is_interleaved(known, family):
        pieces = partial(_interleaved_pieces, pieces, head_dim(config))
    return Tensor(known, shape, pieces)


def _vector(known: str, stored: Stored, family: GgufFamily, config: Any) -> Iterator[NDArray[np.float32]]:
    values = stored.rows(0, stored.shape[0]).reshape(-1)
    if family.interleaved and known.endswith(("attn_q.bias", "attn_k.bias")):
        values = interleaved(values, head_dim(config))
    if family.norm_shift and known.endswith("norm.weight"):
        values = values + np.float32(family.norm_shift)
    yield values


def _whole(values: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    yield values


def _interleaved_pieces(pieces: Callable[[], Iterator[NDArray[np.float32]]], head: int) -> Iterator[NDArray[np.float32]]:
    """The rows of whole heads, which change places."""
    waiting: NDArray[np.float32] | None = None
    for piece in pieces():
        waiting = piece if waiting is None else np.concatenate((waiting, piece))
        whole = len(waiting) // head * head
        if whole:
            yield interleaved(waiting[:whole], head)
            waiting = waiting[whole:]
    if waiting is not None and len(waiting):
        raise BadInput("the rows of a query's or key's weight make no whole heads", "humigence model check")


# --------------------------------------------------------------------------------------------- from another GGUF


def of_gguf(base: BaseModel, adapter: Adapter | None, family: GgufFamily, layers: int, head: int, tally: Tally) -> list[Tensor]:
    """The tensors of a model whose base is a GGUF file: each as it lies there, de-quantized, with the adapter's sum.

    Args:
        layers: decoder layers.
        head: features of a head.

    Raises:
        BadInput: the adapter belongs to another model.
    """
    with read_once():
        reader = gguf.GGUFReader(str(base.path))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.architecture.upper()], layers)
    changed: dict[str, str] = {}
    for layer in adapter.layers if adapter else ():
        known = names.get_name(layer + ".weight", (".weight",))
        if adapter and (known is None or known in changed):
            raise adapter.does_not_fit(f"{base.name} has no weight of {layer}")
        changed[str(known)] = layer
    found = []
    for each in reader.tensors:
        shape = tuple(int(size) for size in reversed(each.shape))
        change = adapter.of(changed.pop(each.name)) if adapter and each.name in changed else None
        if adapter and change is not None and shape != (len(change.up), change.down.shape[1]):
            raise adapter.does_not_fit(f"{each.name} is {list(shape)}, its adapter {[len(change.up), change.down.shape[1]]}")
        if change is not None and is_interleaved(each.name, family):
            lengths = change.lengths if change.lengths is None else interleaved(change.lengths, head)
            change = replace(change, up=interleaved(change.up, head), lengths=lengths)
        found.append(Tensor(each.name, shape, partial(_quantized, each, shape, change, tally)))
    if adapter and changed:
        raise adapter.does_not_fit(f"{base.name} has no weight of {min(changed.values())}")
    return found


def _quantized(stored: Any, shape: Sequence[int], change: LowRank | None, tally: Tally) -> Iterator[NDArray[np.float32]]:
    if len(shape) == 1:
        yield gguf.dequantize(stored.data, stored.tensor_type).reshape(-1).astype(np.float32)
        return
    outputs, inputs = math.prod(shape[:-1]), shape[-1]
    data = stored.data.reshape(outputs, -1)

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = gguf.dequantize(data[begin:end], stored.tensor_type)
        return values.reshape(end - begin, inputs).astype(np.float32, copy=False)

    yield from summed_pieces(stored.name, rows, outputs, inputs, change, tally)
