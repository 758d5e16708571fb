"""Weights where they lie in a model's safetensors files, some rows at a time in 32 bits, with what an adapter adds to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.common.errors import BadInput
from pipeline.export.merge.bfloat16 import BYTES, NAMES, widened
from pipeline.export.merge.lora_weights import LowRank
from pipeline.export.merge.safetensors import Tally, merged_pieces, read_exactly

_PIECE = 1 << 21  # weights that are computed with at once: a few arrays of 8 MiB

Rows = Callable[[int, int], NDArray[np.float32]]
"""Rows `begin` to `end` of a weight, (end - begin, inputs)."""


@dataclass(frozen=True)
class Stored:
    """A weight in a safetensors file.

    Attributes:
        entry: its entry in the file's header.
        start: where the file's header ends.
    """

    name: str
    entry: dict[str, Any]
    start: int
    file: BinaryIO

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.entry["shape"])

    @property
    def dtype(self) -> str:
        """As safetensors calls it."""
        return str(self.entry["dtype"])

    def rows(self, begin: int, end: int) -> NDArray[np.float32]:
        if self.dtype not in NAMES:
            hint = f"choose a base model in {', '.join(NAMES.values())}"
            raise BadInput(f"writing {self.name}: it is of type {self.dtype}", hint)
        inputs = math.prod(self.shape[1:])
        size = inputs * BYTES[self.dtype]
        self.file.seek(self.start + self.entry["data_offsets"][0] + begin * size)
        return widened(read_exactly(self.file, (end - begin) * size), self.dtype).reshape(end - begin, inputs)

    def pieces(self, change: LowRank | None, tally: Tally) -> Iterator[NDArray[np.float32]]:
        """As `summed_pieces`; a number by itself is a row."""
        outputs = self.shape[0] if self.shape else 1
        return summed_pieces(self.name, self.rows, outputs, math.prod(self.shape[1:]), change, tally)


def stored_weights(files: Sequence[Path], opened: ExitStack) -> dict[str, Stored]:
    """Every weight of a model's files, by name.

    Args:
        opened: keeps the files open while rows are read.
    """
    found = dict[str, Stored]()
    for path in files:
        header, start = safetensors_header(path)
        file = opened.enter_context(path.open("rb"))
        found |= {name: Stored(name, entry, start, file) for name, entry in header.items() if name != "__metadata__"}
    return found


def summed_pieces(
    name: str, rows: Rows, outputs: int, inputs: int, change: LowRank | None, tally: Tally
) -> Iterator[NDArray[np.float32]]:
    """A weight's rows from the first to the last with what is added to them, some at a time, (rows, inputs) each.

    Args:
        change: None for a weight that stays as it is.

    Raises:
        BadInput: a sum is no finite number.
        OutOfMemory: there is no room for one row.
    """
    if change is not None:
        yield from (piece.reshape(-1, inputs) for piece in merged_pieces(name, change, rows, "F32", tally))
        return
    step = max(1, _PIECE // inputs)
    for begin in range(0, outputs, step):
        yield rows(begin, min(begin + step, outputs))
