"""Columns of numbers that grow together: what a run measures, a point an optimizer step.

A run of a million steps has them in memory once: whoever draws them is given a view, which never changes. New points come behind
it, and what is taken away is taken from a copy.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import reduce
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

_LEAST_ROOM = 256
_BYTES = 8  # of a double
_MANY_BYTES = 64 << 10


class Curve:
    """Ordered by its first column (the optimizer step).

    Attributes:
        cuts: how often points were taken away: a view from before does not lead on to what is there.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.cuts = 0
        self._length = 0
        self._columns = {name: _room_for(0) for name in names}
        self._totals: dict[str, tuple[int, float]] = {}  # how many points were added up, and to what

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> memoryview[float]:
        """A column as doubles; read only."""
        return self._columns[name][: self._length].toreadonly()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.names == other.names and all(self[name] == other[name] for name in self.names)

    def append(self, **values: float) -> None:
        """One point; a value for every column."""
        self._make_room(self._length + 1)
        for name, column in self._columns.items():
            column[self._length] = values[name]
        self._length += 1

    def extend(self, columns: Mapping[str, array[float]]) -> None:
        """Many points; a column of equal length for every name."""
        end = self._length + len(columns[self.names[0]])
        self._make_room(end)
        for name, column in self._columns.items():
            column[self._length : end] = memoryview(columns[name])
        self._length = end

    def cut_after(self, step: float) -> None:
        """Forget every point after `step`."""
        keep = bisect_right(self[self.names[0]], step)
        if keep == self._length:
            return
        self.cuts += 1
        self._length = keep
        self._totals.clear()
        self._move(keep)

    def total(self, name: str) -> float:
        """The sum of a column; of one that has grown only what is new is added."""
        added, total = self._totals.get(name, (0, 0.0))
        total = reduce(operator.add, self[name][added:].tolist(), total)
        self._totals[name] = self._length, total
        return total

    def fill(self, points: int, read_into: Callable[[memoryview[int]], int]) -> None:
        """Take `points` points in place of its own, column by column, from what fills a buffer of bytes with them.

        Raises:
            ValueError: there were fewer.
        """
        self._length = 0
        self._make_room(points)
        for column in self._columns.values():
            if points and read_into(column.cast("B")[: points * _BYTES]) != points * _BYTES:
                raise ValueError("a column that is cut short")
        self._length = points

    def _make_room(self, points: int) -> None:
        if points > len(self._columns[self.names[0]]):
            self._move(2 * points)

    def _move(self, room: int) -> None:
        """Into new columns; the views that were given out keep the old ones."""
        for name, old in self._columns.items():
            new = _room_for(room)
            new[: self._length] = old[: self._length]
            self._columns[name] = new


def _room_for(points: int) -> memoryview[float]:
    """Memory for so many doubles. Where there are many, what is not written yet takes none of it."""
    size = _BYTES * max(points, _LEAST_ROOM)
    many = size > _MANY_BYTES
    return memoryview(mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS) if many else bytearray(size)).cast("d")
