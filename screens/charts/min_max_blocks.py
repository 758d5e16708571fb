"""Drawing a curve of millions of points in the time of thousands: its lowest and highest points, a pair for each block of steps.

What is worked out once stays; of a curve that has grown only the new blocks are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from screens.charts.chart_math import Floats

Indices = NDArray[np.intp]

_BLOCK = 32
_TOGETHER = 32_768  # blocks: what it takes of memory meanwhile
# Fewer points than this are drawn one by one.
LONG = 1 << 17


class Extremes:
    """Of one curve, and of what it grows to."""

    def __init__(self) -> None:
        self._y: Floats = np.empty(0)
        self._pairs: NDArray[np.intp] = np.empty((0, 2), np.intp)  # of each whole block, in order
        self._broken: Indices = np.empty(0, np.intp)  # the first value of a block that is not finite

    def within(self, y: Floats, begin: int, end: int) -> Indices:
        """Where the points of `y[begin:end]` lie that must be drawn, ascending: the lowest and the highest of each block, one
        that is not finite where there is any, and each of what is left over at both ends.
        """
        self._look_at(y)
        first, last = -(-begin // _BLOCK), end // _BLOCK
        if first >= last:
            return np.arange(begin, end)
        left, right = np.arange(begin, first * _BLOCK), np.arange(last * _BLOCK, end)
        found = np.concatenate([left, self._pairs[first:last].ravel(), right])
        broken = self._broken[(self._broken >= begin) & (self._broken < end)]
        return np.unique(np.concatenate([found, broken])) if len(broken) else found

    def _look_at(self, y: Floats) -> None:
        if not leads_on(self._y, y):  # another curve
            self._pairs, self._broken = self._pairs[:0], self._broken[:0]
        self._y = y
        blocks = len(y) // _BLOCK
        for first in range(len(self._pairs), blocks, _TOGETHER):
            self._add(y, first, min(first + _TOGETHER, blocks))

    def _add(self, y: Floats, first: int, last: int) -> None:
        """The blocks from `first` to `last`."""
        begin = np.arange(first, last) * _BLOCK
        table = y[first * _BLOCK : last * _BLOCK].reshape(-1, _BLOCK)
        finite = np.isfinite(table)
        low = np.where(finite, table, np.inf).argmin(axis=1) + begin
        high = np.where(finite, table, -np.inf).argmax(axis=1) + begin
        self._pairs = np.concatenate([self._pairs, np.sort(np.stack([low, high], axis=1), axis=1)])
        broken = ~finite.all(axis=1)
        self._broken = np.concatenate([self._broken, (begin + finite.argmin(axis=1))[broken]])


def leads_on(before: Floats, now: Floats) -> bool:
    """Whether `now` is `before` with values behind it, seen by where it lies in memory: what was written never changes."""
    return len(now) >= len(before) > 0 and _address(now) == _address(before)


def _address(values: Floats) -> int:
    address: int = values.__array_interface__["data"][0]
    return address
