"""A chart as SVG: lines over optimizer steps, as few points as can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 26, 34
_MOST_POINTS = 600  # of a line; the page is as wide
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        points: (step, value), by step; what is no finite number is left out.
        marks: whether each point is marked: few of them, each of its own measurement.
    """

    name: str
    points: Sequence[Point]
    colour: str
    marks: bool = False


def chart(title: str, lines: Sequence[Line]) -> str:
    """The SVG element; empty where no line has a point.

    Args:
        title: what is measured, with its unit.
    """
    shown = [Line(each.name, _thinned(_finite(each.points)), each.colour, each.marks) for each in lines]
    points = [point for each in shown for point in each.points]
    if not points:
        return ""
    across = _scale(min(x for x, _ in points), max(x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    down = _scale(min(y for _, y in points), max(y for _, y in points), _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text x="{_LEFT}" y="14" class="title">{escape(title)}, by optimizer step</text>', *_legend(shown)]
    for value in down.ticks:
        y = down.of(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="left">{_number(value)}</text>')
    for value in across.ticks:
        parts.append(f'<text x="{across.of(value):.1f}" y="{_HEIGHT - 12}" class="below">{_number(value)}</text>')
    for each in shown:
        places = [(across.of(x), down.of(y)) for x, y in each.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" stroke="{each.colour}" class="line"/>')
        if each.marks:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{each.colour}"/>' for x, y in places]
    label = escape(f"{title}: {', '.join(each.name for each in shown)}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def smoothed(points: Sequence[Point], weight: float = 0.9) -> list[Point]:
    """An exponential average that is not drawn to where it began (Kingma & Ba 2015, §3)."""
    found, mean, held = list[Point](), 0.0, 1.0
    for step, value in points:
        if math.isfinite(value):
            mean = weight * mean + (1 - weight) * value
            held *= weight
            found.append((step, mean / (1 - held)))
    return found


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thinned(points: list[Point]) -> list[Point]:
    """Of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]

    def of(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def _scale(low: float, high: float, begin: float, end: float) -> _Scale:
    """From a round number to a round number."""
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    step = _round_step((high - low) / _TICKS)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    count = round((high - low) / step)
    return _Scale(low, high, begin, end, tuple(low + number * step for number in range(count + 1)))


def _round_step(step: float) -> float:
    unit: float = 10.0 ** math.floor(math.log10(step))
    return next(each * unit for each in (1, 2, 5, 10) if each * unit >= step * (1 - 1e-9))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if value else "0"


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, right = [], _WIDTH - _RIGHT
    for each in reversed(lines):
        parts.append(f'<text x="{right}" y="14" class="name" style="fill:{each.colour}">{escape(each.name)}</text>')
        right -= 8 * len(each.name) + 18
    return parts
