"""`W + scale · B·A` for each layer of an adapter, its rows as long as DoRA wants them, beside the weights that stay as they are.

Into the base's own weights, never into the 4 or 8 bits that training held them in: the adapter would be added to numbers that
are rounded already, and the sum would have to be rounded as coarsely again, which loses much of what was taught. The sum is
computed in 32 bits and rounded once, to the type the weight has in its file.

Weights go from file to file in pieces of a few megabytes: the memory that takes does not grow with the model.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.common.errors import BadInput
from pipeline.export.merge.bfloat16 import BYTES, NAMES, narrowed, widened
from pipeline.export.merge.lora_weights import Adapter, LowRank
from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, unless_short

_PIECE = 1 << 21  # weights that are computed with at once: four or five arrays of 8 MiB
_COPIED_BYTES = 8 << 20

Watch = Callable[[int], None]
"""Called after each weight with its bytes; may raise to end the work."""


@dataclass
class Tally:
    """What the merging came to.

    Attributes:
        dtypes: types of the weights that were changed.
        kept: of what the adapter adds, the share that the rounded sums differ from the base by (1 where nothing is lost to
            rounding: a weight takes no change smaller than half of its last place).
        digests: file name -> sha256, of files that were summed as they were written.
        at_once: weights that are computed with at once; half as many, from there on, where memory runs out.
    """

    dtypes: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)
    at_once: int = field(default_factory=lambda: _PIECE)
    _added: float = 0.0
    _arrived: float = 0.0

    def count(self, before: NDArray[np.float32], after: NDArray[np.float32], added: NDArray[np.float32]) -> None:
        self._added += float(np.vdot(added, added))
        self._arrived += float(np.vdot(after - before, added))

    @property
    def kept(self) -> float:
        return self._arrived / self._added if self._added else 1.0

    @property
    def dtype(self) -> str:
        """`bfloat16`; several with commas."""
        return ", ".join(sorted(NAMES[each] for each in self.dtypes))


class Changes:
    """Which weight of a model's files each layer of an adapter adds to.

    Args:
        sizes: weight -> its dimensions.

    Raises:
        BadInput: a layer is not there, or of another size.
    """

    def __init__(self, adapter: Adapter, sizes: Mapping[str, Sequence[int]]) -> None:
        self.adapter = adapter
        self._layers: dict[str, str] = {}
        for layer, (outputs, inputs) in adapter.layers.items():
            size = (inputs, outputs) if adapter.transposed else (outputs, inputs)
            weight = weight_of(layer, sizes)
            if weight is None or weight in self._layers:
                raise adapter.does_not_fit(f"the base model's files have no weight of {layer}")
            if tuple(sizes[weight]) != size:
                raise adapter.does_not_fit(f"{weight} is {list(sizes[weight])}, its adapter {list(size)}")
            self._layers[weight] = layer

    def of(self, weight: str) -> LowRank | None:
        """What is added to a weight; None for one that stays as it is."""
        layer = self._layers.get(weight)
        return None if layer is None else self.adapter.of(layer)


def weight_of(layer: str, names: Collection[str]) -> str | None:
    """A layer's weight among the names in the files: some publish a model without, or inside of, the outermost module."""
    wanted = layer + ".weight"
    if wanted in names:
        return wanted
    near = [name for name in names if name.endswith("." + wanted) or wanted.endswith("." + name)]
    near = near or [name for name in names if _inside(name) == _inside(wanted)]
    return near[0] if len(near) == 1 else None


def _inside(name: str) -> str:
    """A weight's name without the modules around the language model: multimodal models are published with them elsewhere, and
    loaded without them where only text is wanted."""
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


def merged_pieces(
    name: str, change: LowRank, read: Callable[[int, int], NDArray[np.float32]], dtype: str, tally: Tally
) -> Iterator[NDArray[Any]]:
    """The merged weight as it lies in a file, some rows at a time.

    Args:
        read: rows `begin` to `end` of the base's weight, (end - begin, inputs).

    Raises:
        BadInput: a sum is no finite number of this type.
        OutOfMemory: there is no room for one row.
    """
    tally.dtypes.add(dtype)
    begin, outputs, inputs = 0, len(change.up), change.down.shape[1]
    squares = (
        _column_squares(change, read, max(1, tally.at_once // inputs))
        if change.by_column and change.lengths is not None
        else None
    )
    while begin < outputs:
        end = min(begin + max(1, tally.at_once // inputs), outputs)
        rows = unless_short(partial(_rows, name, change, read, dtype, tally, begin, end, squares))
        if rows is not NO_ROOM:
            yield rows
            begin = end
        elif end - begin == 1:
            raise merge_fault(name)
        else:
            tally.at_once = (end - begin) // 2 * inputs


def _column_squares(change: LowRank, read: Callable[[int, int], NDArray[np.float32]], step: int) -> NDArray[np.float32]:
    """(inputs,) of the whole sum, which is gone through once more for it."""
    squares = np.zeros(change.down.shape[1], np.float32)
    for begin in range(0, len(change.up), step):
        end = min(begin + step, len(change.up))
        squares += np.square(read(begin, end) + change.rows(begin, end)).sum(axis=0)
    return squares


def _rows(
    name: str,
    change: LowRank,
    read: Callable[[int, int], NDArray[np.float32]],
    dtype: str,
    tally: Tally,
    begin: int,
    end: int,
    squares: NDArray[np.float32] | None,
) -> NDArray[Any]:
    before = read(begin, end)
    total = change.resized(before + change.rows(begin, end), begin, end, squares)
    added = change.rows(begin, end) if change.lengths is None else total - before
    rounded = narrowed(total, dtype)
    after = widened(rounded, dtype).reshape(total.shape)
    if not (np.isfinite(total).all() and np.isfinite(after).all()):
        raise not_finite(name, dtype)
    tally.count(before, after, added)
    return rounded


def as_held(name: str, values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Numbers of a weight as they lie in a file. Raises `BadInput` where one is not finite in this type."""
    held = narrowed(values, dtype)
    if not np.isfinite(widened(held, dtype)).all():
        raise not_finite(name, dtype)
    return held


def not_finite(name: str, dtype: str) -> BadInput:
    """A weight that does not fit the type it is to be held in."""
    hint = "train again with a lower train.lr" + (", or merge in bfloat16 (merged_bf16)" if dtype == "F16" else "")
    return BadInput(f"merging {name}: the sum is no finite number of type {NAMES[dtype]}", hint)


# ----------------------------------------------------------------------------------------------------- safetensors


def merge_files(files: Sequence[Path], adapter: Adapter, folder: Path, watch: Watch, dtype: str | None = None) -> Tally:
    """Write each of a model's safetensors files anew into `folder`: the same name, header and places, the sums in their place.

    Args:
        files: the base model's, in F32, F16 or BF16 where the adapter adds to a weight; summed in float32, rounded once.
        folder: another one than theirs, without files of these names.
        dtype: what every weight of a float type is held in; by default what it has in its file.
        watch: called with the bytes of each tensor when it is written.

    Raises:
        BadInput: the adapter belongs to another model, a weight it adds to is no plain float, a sum is not finite.
        OutOfMemory: not even one row of a weight finds room.
    """
    headers = [safetensors_header(file) for file in files]
    tensors = {name: entry for header, _ in headers for name, entry in header.items() if name != "__metadata__"}
    changes, tally = Changes(adapter, {name: entry["shape"] for name, entry in tensors.items()}), Tally()
    for file, (header, start) in zip(files, headers, strict=True):
        with file.open("rb") as source, (folder / file.name).open("xb") as target:
            summed = _Summed(target)
            if dtype is None:
                _copy(source, summed, start)
            else:
                summed.write(_header_in(header, dtype))
                source.seek(start)
            for name, entry in _in_place(header):
                size = entry["data_offsets"][1] - entry["data_offsets"][0]
                change, held = changes.of(name), _held(entry["dtype"], dtype)
                if change is not None:
                    _merge(source, summed, name, entry, change, tally, held)
                elif held == entry["dtype"]:
                    _copy(source, summed, size)
                else:
                    _round(source, summed, name, size, entry["dtype"], held)
                watch(_bytes_in(entry, held))
        tally.digests[file.name] = summed.digest.hexdigest()
    return tally


class _Summed:
    """A file whose sha256 is known when it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> None:
        self.digest.update(data)
        self._file.write(data)


def _in_place(header: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The tensors as they follow one another; the format leaves no gap between them."""
    tensors = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    return sorted(tensors, key=lambda each: (each[1]["data_offsets"], each[0]))


def _held(own: str, chosen: str | None) -> str:
    """What a weight is held in: what is no float stays as it is."""
    return chosen if chosen and own in NAMES else own


def _bytes_in(entry: dict[str, Any], dtype: str) -> int:
    size: int = entry["data_offsets"][1] - entry["data_offsets"][0]
    return size if dtype == entry["dtype"] else size // BYTES[entry["dtype"]] * BYTES[dtype]


def _header_in(header: dict[str, Any], dtype: str) -> bytes:
    """The header of the same weights in the same order, each in the type it is to be held in."""
    written: dict[str, Any] = {name: entry for name, entry in header.items() if name == "__metadata__"}
    place = 0
    for name, entry in _in_place(header):
        held = _held(entry["dtype"], dtype)
        end = place + _bytes_in(entry, held)
        written[name] = {"dtype": held, "shape": entry["shape"], "data_offsets": [place, end]}
        place = end
    return header_bytes(written)


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """What a file begins with."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the weights are aligned, as the format asks
    return struct.pack("<Q", len(text)) + text


def _round(source: BinaryIO, target: _Summed, name: str, count: int, own: str, held: str) -> None:
    """A weight that the adapter does not change, in another type."""
    while count:
        data = read_exactly(source, min(count, _COPIED_BYTES))
        target.write(as_held(name, widened(data, own), held).data.cast("B"))
        count -= len(data)


def _copy(source: BinaryIO, target: _Summed, count: int) -> None:
    while count:
        data = read_exactly(source, min(count, _COPIED_BYTES))
        target.write(data)
        count -= len(data)


def read_exactly(source: BinaryIO, count: int) -> bytes:
    """Raises `BadInput` where the file ends before."""
    data = source.read(count)
    if len(data) != count:
        raise BadInput(f"{source.name} ends too early", "humigence model check; humigence model download fetches it again")
    return data


def _merge(source: BinaryIO, target: _Summed, name: str, entry: dict[str, Any], change: LowRank, tally: Tally, held: str) -> None:
    dtype = entry["dtype"]
    if dtype not in NAMES:
        raise BadInput(f"merging {name}: it is of type {dtype}", f"choose a base model in {', '.join(NAMES.values())}")
    start, inputs = source.tell(), entry["shape"][1]
    row_bytes = inputs * BYTES[dtype]

    def read(begin: int, end: int) -> NDArray[np.float32]:
        source.seek(start + begin * row_bytes)  # again where memory ran out
        return widened(read_exactly(source, (end - begin) * row_bytes), dtype).reshape(-1, inputs)

    for piece in merged_pieces(name, change, read, held, tally):
        target.write(np.ascontiguousarray(piece).data.cast("B"))
    source.seek(start + entry["shape"][0] * row_bytes)


def merge_fault(weight: str) -> OutOfMemory:
    """There is no room for a few rows of a weight and what is added to them."""
    return OutOfMemory(
        f"memory ran out while merging {weight}",
        "free memory on this machine, then humigence merge goes on; the adapter is packaged already",
    )
