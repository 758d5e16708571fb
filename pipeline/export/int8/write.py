"""Writing the model: what is in each file is known before its first weight is computed, and each piece goes to the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.locate import INDEX
from pipeline.common.errors import BadInput
from pipeline.common.files import write_json
from pipeline.export.int8.scheme import Part, Scheme
from pipeline.export.int8.sources import Source, Weight
from pipeline.export.merge.bfloat16 import BYTES, NAMES
from pipeline.export.merge.safetensors import Watch, as_held, header_bytes, not_finite

_SHARD_BYTES = 5_000_000_000
_BYTES = BYTES | {"I8": 1, "U8": 1, "I32": 4, "I64": 8}


@dataclass(frozen=True)
class _Entry:
    """A tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]


def write_weights(folder: Path, source: Source, scheme: Scheme, watch: Watch) -> None:
    """Write the safetensors files, and an index where they are several.

    Args:
        watch: called with the bytes of each piece; may raise.

    Raises:
        BadInput: a sum is no finite number.
        OutOfMemory: there is no room for a few rows.
    """
    shards = list(_shards(source, scheme))
    files, total = dict[str, str](), 0
    for number, weights in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        entries = [entry for weight in weights for entry in _entries(weight, source, scheme)]
        with (folder / name).open("xb") as file:
            places = _write_header(file, entries)
            for weight in weights:
                _write(file, places, weight, source, scheme, watch)
        files |= {entry.name: name for entry in entries}
        total += sum(entry.bytes for entry in entries)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": files})


def _shards(source: Source, scheme: Scheme) -> Iterator[list[Weight]]:
    shard, size = list[Weight](), 0
    for weight in source.weights:
        added = sum(entry.bytes for entry in _entries(weight, source, scheme))
        if shard and size + added > _SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(weight)
        size += added
    yield shard


def _entries(weight: Weight, source: Source, scheme: Scheme) -> list[_Entry]:
    if weight.name not in source.linear:
        return [_Entry(weight.name, source.dtype if weight.dtype in NAMES else weight.dtype, weight.shape)]
    outputs, inputs = weight.shape
    if inputs % 4:
        raise BadInput(f"{weight.name} has {inputs} inputs, and eight-bit weights are packed four to a number", "choose merged")
    layer = weight.name.removesuffix("weight")
    return [_entry(layer, part, outputs, inputs) for part in (scheme.weight, *scheme.beside)]


def _entry(layer: str, part: Part, outputs: int, inputs: int) -> _Entry:
    return _Entry(layer + part.name, part.dtype, tuple(part.shape(outputs, inputs)))


def _write_header(file: BinaryIO, entries: Sequence[_Entry]) -> dict[str, int]:
    """The header, and where each tensor begins in the file: those of large numbers first, so that all are aligned."""
    written: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begins, place = dict[str, int](), 0
    for entry in sorted(entries, key=lambda each: -_BYTES[each.dtype]):
        end = place + entry.bytes
        written[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [place, end]}
        begins[entry.name], place = place, end
    file.write(header_bytes(written))
    start = file.tell()
    file.truncate(start + place)
    return {name: start + begin for name, begin in begins.items()}


def _write(file: BinaryIO, places: Mapping[str, int], weight: Weight, source: Source, scheme: Scheme, watch: Watch) -> None:
    linear, scales = weight.name in source.linear, list[NDArray[np.float32]]()
    layer = weight.name.removesuffix("weight")
    file.seek(places[layer + scheme.weight.name if linear else weight.name])
    for piece in weight.pieces():
        if not np.isfinite(piece).all():
            raise not_finite(weight.name, source.dtype)
        if linear:
            rows, of_rows = scheme.quantized(piece)
            scales.append(of_rows)
            data = scheme.rows(rows)
        else:
            data = as_held(weight.name, piece, source.dtype).tobytes()
        file.write(data)
        watch(len(data))
    if linear:
        for part, data in zip(scheme.beside, scheme.rest(np.concatenate(scales), *weight.shape), strict=True):
            file.seek(places[layer + part.name])
            file.write(data)
            watch(len(data))
