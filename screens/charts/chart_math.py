"""The arithmetic of charts: what part of the curve is in view, its scale and ticks, thinning, smoothing, braille cells.

Plain functions over numpy arrays, x ascending. A value that is not finite is a gap; on a log scale so is zero and less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dots = NDArray[np.bool_]

# A braille cell is 2 dots wide and 4 high.
CELL_COLUMNS, CELL_ROWS = 2, 4
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)
LEAST_SPAN = 8.0
_LEAST_WEIGHT = 1e-9


# -------------------------------------------------------------------------------------------------------- the view


@dataclass(frozen=True)
class View:
    """The steps in view, `first` to `last`. `following`: the right edge moves with the run."""

    first: float
    last: float
    following: bool = True

    @property
    def span(self) -> float:
        return self.last - self.first


def whole(low: float, high: float) -> View:
    """All of the curve, with room for at least a few steps."""
    return View(low, max(high, low + LEAST_SPAN))


def zoomed(view: View, factor: float, low: float, high: float, around: float | None = None) -> View:
    """`factor` below 1 comes nearer. The point `around` stays where it is (the right edge when following, else the middle)."""
    limits = whole(low, high)
    span = min(max(view.span * factor, LEAST_SPAN), limits.span)
    if around is None:
        around = view.last if view.following else (view.first + view.last) / 2
    share = (around - view.first) / view.span if view.span else 0.5
    return _within(View(around - share * span, around + (1 - share) * span, view.following), limits)


def panned(view: View, share: float, low: float, high: float) -> View:
    """Move by `share` of the view, never past the curve's ends."""
    by = view.span * share
    return _within(View(view.first + by, view.last + by), whole(low, high))


def _within(view: View, limits: View) -> View:
    span = min(view.span, limits.span)
    first = min(max(view.first, limits.first), limits.last - span)
    return View(first, first + span, following=first + span >= limits.last - 1e-9)


def followed(view: View, low: float, high: float) -> View:
    """The view after the curve has grown: the same span at its end, or where the person left it."""
    limits = whole(low, high)
    if view.following:
        return View(limits.last - view.span, limits.last)
    return replace(_within(view, limits), following=False)


# ------------------------------------------------------------------------------------------------ thin and smooth


def in_view(x: Floats, first: float, last: float) -> tuple[int, int]:
    """From where to where the points in view are, with one on either side, so that a line runs to the edges."""
    begin = max(0, int(np.searchsorted(x, first, "left")) - 1)
    end = min(len(x), int(np.searchsorted(x, last, "right")) + 1)
    return begin, end


def thinned(x: Floats, y: Floats, columns: int) -> tuple[Floats, Floats]:
    """At most about `2 * columns` points: the lowest and the highest of each of `columns` groups, in their order.

    No extreme is lost. Points whose y is not finite are left out.
    """
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= 2 * columns:
        return x, y
    # Groups as the rows of a table, the last one filled up with its last value.
    size = -(-len(y) // columns)
    rows = -(-len(y) // size)
    table = np.concatenate([y, np.full(rows * size - len(y), y[-1])]).reshape(rows, size)
    begin = np.arange(rows) * size
    low, high = begin + table.argmin(axis=1), np.minimum(begin + table.argmax(axis=1), len(y) - 1)
    low = np.minimum(low, len(y) - 1)
    indices = np.unique(np.concatenate([low, high]))
    return x[indices], y[indices]


def smoothed(y: Floats, weight: float) -> Floats:
    """Exponential mean with `weight` on the past, corrected for its beginning; values that are not finite are passed over.

    The recurrence s = weight * s + (1 - weight) * y, for 100,000 values in a few milliseconds.
    """
    return Smoother(weight).upto(y) if weight > 0 else y.copy()


class Smoother:
    """The same for a curve that grows: only what is new is worked out. What was given out never changes."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._values = np.empty(0)
        self._filled = 0
        self._total = self._count = 0.0

    def upto(self, y: Floats) -> Floats:
        """All of `y` smoothed; it begins with what the last call was given."""
        new = y[self._filled :]
        if len(y) > len(self._values):
            larger = np.empty(len(y) + len(y) // 2)
            larger[: self._filled] = self._values[: self._filled]
            self._values = larger
        if len(new):
            self._values[self._filled : len(y)] = self._smooth(new)
            self._filled = len(y)
        return self._values[: len(y)]

    def _smooth(self, new: Floats) -> Floats:
        good = np.isfinite(new)
        total = _decayed_sum(np.where(good, new, 0.0), self.weight, self._total)
        count = _decayed_sum(good.astype(np.float64), self.weight, self._count)
        self._total, self._count = float(total[-1]), float(count[-1])
        with np.errstate(invalid="ignore", divide="ignore"):
            # After hundreds of values that are not finite nothing is left to go by.
            return np.where(count > _LEAST_WEIGHT, total / count, np.nan)


def _decayed_sum(values: Floats, weight: float, before: float = 0.0) -> Floats:
    """out[i] = weight * out[i - 1] + values[i], with `before` for out[-1].

    Each pass doubles the span summed, until the rest weighs nothing.
    """
    total = values.copy()
    if before and len(total):
        total[0] += weight * before
    reach, decay = 1, weight
    while reach < len(total) and decay > 1e-18:
        total[reach:] += decay * total[:-reach].copy()
        reach, decay = 2 * reach, decay * decay
    return total


# ---------------------------------------------------------------------------------------------------------- scales


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` onto 0 … 1, straight or by their logarithm."""

    low: float
    high: float
    log: bool = False

    def share(self, values: Floats) -> Floats:
        """0 at `low`, 1 at `high`; NaN where a value has no place."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.log:
                spread = math.log(self.high / self.low)
                return np.where(values > 0, np.log(values / self.low) / spread, np.nan)
            shares: Floats = (values - self.low) / (self.high - self.low)
            return shares


def fitted(columns: Sequence[Floats], log: bool = False, outliers: float = 0.0, body: Sequence[Floats] | None = None) -> Scale:
    """The scale that holds all values, or all but the highest `outliers` (a share): one spike must not flatten a curve.

    On a log scale only positive values count; without any the scale is straight.

    Args:
        body: what the share is of, where `columns` have the extremes only.
    """
    values = _finite(columns)
    positive = values[values > 0]
    log = log and len(positive) > 0
    values = positive if log else values
    if not len(values):
        return Scale(0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if outliers and len(values) > 20:
        most = float(np.quantile(_sampled(values if body is None else _finite(body)), 1 - outliers))
        high = most + 0.3 * (most - low) if high > most + (most - low) else high
    if log:
        return Scale(low / 1.05, max(high, low * 1.02) * 1.05, True)
    room = 0.04 * (high - low) or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room)


def _finite(columns: Sequence[Floats]) -> Floats:
    return np.concatenate([column[np.isfinite(column)] for column in columns]) if columns else np.empty(0)


def _sampled(values: Floats) -> Floats:
    """Enough of them to show how they are spread."""
    return values[:: 1 + len(values) // 5000]


def ticks(scale: Scale, most: int) -> list[float]:
    """At most `most` round values in the scale."""
    if most < 1:
        return []
    if scale.log:
        return _log_ticks(scale.low, scale.high, most)
    return _round_ticks(scale.low, scale.high, most)


def _round_ticks(low: float, high: float, most: int) -> list[float]:
    power = 10.0 ** math.floor(math.log10((high - low) / most)) if high > low else 1.0
    for size in (power * factor for scale in (1, 10, 100) for factor in (scale, 2 * scale, 5 * scale)):
        first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
        if last - first + 1 <= most:
            return [number * size for number in range(first, last + 1)]
    return []


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found if len(found) > 1 else _round_ticks(low, high, most)
    every = -(-len(powers) // most)
    return [10.0**power for power in powers if power % every == 0 and low <= 10.0**power <= high]


def step_ticks(view: View, most: int) -> list[int]:
    """Whole, round optimizer steps in view."""
    return sorted({round(value) for value in _round_ticks(view.first, view.last, max(1, most))})


def label(value: float, ticks_: Sequence[float]) -> str:
    """A tick's label with as many decimals as its neighbours need: `1.25`, `2e-4`."""
    if value == 0:
        return "0"
    gap = min((abs(b - a) for a, b in pairwise(ticks_)), default=abs(value))
    if abs(value) < 1e-2 or abs(value) >= 1e6:
        return f"{value:.{0 if gap >= abs(value) * 0.5 else 1}e}".replace("e-0", "e-").replace("e+0", "e")
    exact = (digits for digits in range(6) if all(abs(round(tick, digits) - tick) < gap * 1e-3 for tick in (*ticks_, value)))
    return f"{value:,.{next(exact, 6)}f}"


def step_label(step: int) -> str:
    """`400`, `1,200`, `20 k`."""
    return f"{step // 1000:,} k" if step >= 10_000 and step % 1000 == 0 else f"{step:,}"


# ------------------------------------------------------------------------------------------------------ the canvas


class Canvas:
    """Dots of braille cells: `columns` × `rows` cells, (0, 0) in the corner below at the left in shares of 0 … 1."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.dots: Dots = np.zeros((rows * CELL_ROWS, columns * CELL_COLUMNS), dtype=np.bool_)

    def place(self, x: Floats, y: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Dot coordinates (column, row from above) of the points that lie inside."""
        height, width = self.dots.shape
        inside = np.isfinite(x) & np.isfinite(y) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        column = np.minimum((x[inside] * width).astype(np.intp), width - 1)
        row = np.minimum(((1 - y[inside]) * height).astype(np.intp), height - 1)
        return column, row

    def points(self, x: Floats, y: Floats) -> None:
        column, row = self.place(x, y)
        self.dots[row, column] = True

    def line(self, x: Floats, y: Floats, *, thick: bool = False) -> None:
        """A line through the points in order, one dot high or two; one that is not finite breaks it. x ascends."""
        height, width = self.dots.shape
        finite = np.isfinite(x) & np.isfinite(y)
        for part in np.flatnonzero(finite)[:1] if finite.all() else ():
            self._unbroken(x[part:], y[part:], width, height)
        if not finite.all():
            bounds = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
            for begin, end in bounds.reshape(-1, 2):
                self._unbroken(x[begin:end], y[begin:end], width, height)
        if thick:
            self.dots[1:] |= self.dots[:-1].copy()

    def _unbroken(self, x: Floats, y: Floats, width: int, height: int) -> None:
        """Column by column: the dots between where the line enters and where it leaves."""
        first = max(0, math.floor(float(x[0]) * width))
        last = min(width - 1, math.floor(float(x[-1]) * width))
        if last < first:
            return
        edges = np.arange(first, last + 2) / width
        at_edge = np.interp(edges, x, y)
        low, high = np.minimum(at_edge[:-1], at_edge[1:]), np.maximum(at_edge[:-1], at_edge[1:])
        column = np.clip((x * width).astype(np.intp), first, last) - first
        inside = (x * width >= first) & (x * width < last + 1)
        np.minimum.at(low, column[inside], y[inside])
        np.maximum.at(high, column[inside], y[inside])
        top = np.floor((1 - high) * height).astype(np.intp)
        bottom = np.floor((1 - low) * height).astype(np.intp)
        for offset, (begin, end) in enumerate(zip(top.tolist(), bottom.tolist(), strict=True)):
            if end >= 0 and begin < height:
                # Half open towards the next column, so that a slope is one dot thick.
                self.dots[max(0, begin) : min(height - 1, max(begin, end - (end > begin))) + 1, first + offset] = True

    def cells(self) -> NDArray[np.uint8]:
        """The braille pattern of each cell, rows × columns; 0 where it is empty."""
        table = self.dots.reshape(self.rows, CELL_ROWS, self.columns, CELL_COLUMNS)
        patterns: NDArray[np.uint8] = (table * _BITS[None, :, None, :]).sum(axis=(1, 3), dtype=np.uint8)
        return patterns
