"""A chart of curves over optimizer steps, in braille: zoom, pan, log scale, a reading at the pointer.

It is given `Panel`s of `Series` with every point they have, and thins them to its own width when they, or what is in view of
them, have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from screens.charts import chart_math
from screens.charts.chart_math import Floats, Scale, View
from screens.charts.min_max_blocks import LONG, Extremes

SeriesKind = Literal["dots", "line", "marks"]
_SYMBOLS: dict[SeriesKind, str] = {"dots": "·", "line": "━", "marks": "◆"}
_BRAILLE = [" ", *map(chr, range(0x2801, 0x2900))]
_LABEL_WIDTH = 6
# Where there are this many rows a line may be two dots high.
_THICK_FROM_ROWS = 14
# A panel below the first one needs this many rows to say anything.
_LEAST_PANEL_ROWS = 4
_EMPTY = np.empty(0)


@dataclass(frozen=True, eq=False)
class Series:
    """One curve. `colour` is a variable of the theme (`chart-line`). x ascends; y may hold NaN.

    `tag`: a character at the end of the line, for eyes and terminals that can't distinguish it by its colour.
    """

    name: str
    x: Floats
    y: Floats
    colour: str
    kind: SeriesKind = "line"
    mark: str = "◆"
    tag: str = ""
    has_legend: bool = True


class Flag(NamedTuple):
    """A word at a step, in the first row of a panel."""

    step: float
    text: str
    colour: str


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves that share a scale. `outliers`: the share of highest values that may leave the scale (they stick to its top)."""

    title: str
    series: tuple[Series, ...]
    log: bool = False
    outliers: float = 0.0
    flags: tuple[Flag, ...] = ()
    empty: str = "nothing yet"


@dataclass
class _Box:
    """Rows of one panel: cells, a colour for each (-1: none), characters that replace braille, and the labels of its axis."""

    cells: NDArray[np.uint8]
    colours: NDArray[np.int8]
    marks: dict[tuple[int, int], str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    is_empty: bool = False


class Chart(Widget):
    """`panels` share the steps in view. `limits` are the first and last step there are."""

    DEFAULT_CSS = "Chart { height: 1fr; min-height: 5; }"
    ALLOW_SELECT: ClassVar[bool] = False

    panels: reactive[tuple[Panel, ...]] = reactive((), always_update=True)
    limits: reactive[tuple[float, float]] = reactive((0.0, chart_math.LEAST_SPAN))
    view: reactive[View | None] = reactive(None)
    pointer: reactive[float | None] = reactive(None)  # the step under the mouse, or chosen by keys

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._styles: dict[tuple[str, bool], Style] = {}  # of one drawing
        self._drawn_for: object = None
        self._boxes: list[_Box] = []
        self._plotted_for: object = None
        self._extremes: dict[tuple[str, str], Extremes] = {}  # of a series in a panel

    # ---------------------------------------------------------------------------------------------- zoom and pan

    def watch_limits(self) -> None:
        if self.view is not None:
            self._look_at(chart_math.followed(self.view, *self.limits))

    @property
    def shown(self) -> View:
        return self.view or chart_math.whole(*self.limits)

    def _look_at(self, view: View) -> None:
        """None stands for all of the curve, however long it grows."""
        self.view = None if view.span >= chart_math.whole(*self.limits).span else view

    def zoom(self, factor: float, around: float | None = None) -> None:
        """`factor` below 1 comes nearer."""
        self._look_at(chart_math.zoomed(self.shown, factor, *self.limits, around=around))

    def pan(self, share: float) -> None:
        """By `share` of what is in view; positive goes on in time."""
        self._look_at(chart_math.panned(self.shown, share, *self.limits))

    def show_all(self) -> None:
        self.view = None

    def move_pointer(self, columns: int) -> None:
        """The reading goes `columns` cells on; at first it appears at the newest step."""
        view = self.shown
        at = view.last if self.pointer is None else self.pointer + columns * view.span / self._plot_width
        self.pointer = min(max(at, view.first), view.last)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.pan(-0.1) if event.shift or event.ctrl else self.zoom(0.8, self._step_at(event.x))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.pan(0.1) if event.shift or event.ctrl else self.zoom(1.25, self._step_at(event.x))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.pointer = self._step_at(event.x)

    def on_leave(self) -> None:
        self.pointer = None

    def _step_at(self, x: int) -> float:
        view = self.shown
        share = (x - _LABEL_WIDTH - 2 + 0.5) / self._plot_width
        return view.first + min(1.0, max(0.0, share)) * view.span

    # ---------------------------------------------------------------------------------------------------- drawing

    @property
    def _plot_width(self) -> int:
        return max(1, self.size.width - _LABEL_WIDTH - 3)

    def render_line(self, y: int) -> Strip:
        # A frame is drawn when its first line is asked for after something changed.
        key = (self.panels, self.shown, self.pointer, self.size, self.app.theme, self.limits)
        if _differs(self._drawn_for, key):
            self._drawn_for = key
            self._strips = self._draw(self.size)
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self._style("foreground"))

    def _style(self, colour: str, *, bold: bool = False) -> Style:
        style = self._styles.get((colour, bold))
        if style is None:
            found = Color.parse(self.app.theme_variables.get(colour, "white"))
            background = self.background_colors[1].rich_color
            style = self._styles[colour, bold] = Style(color=found.rich_color, bgcolor=background, bold=bold or None)
        return style

    def _draw(self, size: Size) -> list[Strip]:
        self._styles.clear()
        if size.width < _LABEL_WIDTH + 10 or size.height < 4 or not self.panels:
            return []
        panels = self.panels if size.height >= 9 + _LEAST_PANEL_ROWS else self.panels[-1:]
        key = (self.panels, self.shown, size)  # moving the pointer plots nothing anew
        if _differs(self._plotted_for, key):
            self._plotted_for = key
            heights = panel_heights(len(panels), size.height - 2)
            self._boxes = [self._plot(panel, height - 1) for panel, height in zip(panels, heights, strict=True)]
        strips: list[Strip] = []
        for panel, box in zip(panels, self._boxes, strict=True):
            strips += self._draw_panel(panel, box, size.width)
        strips += self._draw_axis(size.width)
        return strips

    def _plot(self, panel: Panel, rows: int) -> _Box:
        view = self.shown
        parts = [self._in_view(panel, series) for series in panel.series]
        scale = chart_math.fitted([y for _, y, _ in parts], panel.log, panel.outliers, [body for _, _, body in parts])
        box = _Box(np.zeros((rows, self._plot_width), np.uint8), np.full((rows, self._plot_width), -1, np.int8))
        for number, (series, (x, y, _)) in enumerate(zip(panel.series, parts, strict=True)):
            self._paint(box, number, series, (x - view.first) / view.span, scale.share(y), rows)
        box.is_empty = not any(np.isfinite(y).any() for _, y, _ in parts)
        box.labels = {} if box.is_empty else axis_labels(scale, rows)
        return box

    def _in_view(self, panel: Panel, series: Series) -> tuple[Floats, Floats, Floats]:
        """(x, y, y) of the points that are seen; of very many the lowest and the highest of each few hundred, and some of all."""
        begin, end = chart_math.in_view(series.x, self.shown.first, self.shown.last)
        x, y = series.x[begin:end], series.y[begin:end]
        if len(y) <= LONG:
            return x, y, y
        extremes = self._extremes.setdefault((panel.title, series.name), Extremes())
        inside = extremes.within(series.y, begin, end)
        return series.x[inside], series.y[inside], y[:: len(y) // LONG + 1]

    def _draw_panel(self, panel: Panel, box: _Box, width: int) -> list[Strip]:
        """A row of title and legend, then the rows of the plot."""
        rows = len(box.cells)
        colours = [self._style(series.colour) for series in panel.series]
        lines = [self._draw_title(panel, width)]
        for row in range(rows):
            middle = panel.empty if box.is_empty and row == rows // 2 else ""
            lines.append(self._draw_row(box, row, box.labels.get(row, ""), colours, middle))
        return self._with_flags(lines, panel) if panel.flags else lines

    def _paint(self, box: _Box, number: int, series: Series, x: Floats, y: Floats, rows: int) -> None:
        canvas = chart_math.Canvas(self._plot_width, rows)
        if series.kind == "marks":
            self._mark(box, number, canvas, x, y, series.mark)
            return
        x, y = (
            chart_math.thinned(x, y, self._plot_width * chart_math.CELL_COLUMNS)
            if series.kind == "dots"
            else _thinned_line(x, y, 8 * self._plot_width)  # finer than what is seen: groups need not end where columns do
        )
        if series.kind == "dots":
            canvas.points(x, np.clip(y, 0, 1))
        elif len(x):
            canvas.line(x, y, thick=rows >= _THICK_FROM_ROWS)
        cells = canvas.cells()
        painted = cells > 0
        box.cells[painted] = cells[painted]
        box.colours[painted] = number
        ends = np.flatnonzero(np.isfinite(y) & (x <= 1))
        if series.tag and len(ends):
            self._mark(box, number, canvas, x[ends[-1:]], y[ends[-1:]], series.tag)

    def _mark(self, box: _Box, number: int, canvas: chart_math.Canvas, x: Floats, y: Floats, mark: str) -> None:
        column, row = canvas.place(x, np.clip(y, 0, 1))
        for c, r in zip((column // chart_math.CELL_COLUMNS).tolist(), (row // chart_math.CELL_ROWS).tolist(), strict=True):
            box.marks[r, c] = mark
            box.colours[r, c] = number

    def _draw_row(self, box: _Box, row: int, label: str, colours: Sequence[Style], message: str) -> Strip:
        dim, faint = self._style("dim"), self._style("faint")
        segments = [Segment(f"{label:>{_LABEL_WIDTH}} ", dim), Segment("┤" if label else "│", faint)]
        if message:
            segments.append(Segment(f"{message:^{self._plot_width}}"[: self._plot_width], dim))
        else:
            segments += _runs(box, row, colours, faint, self._pointer_column())
        return Strip([*segments, Segment(" ", faint)]).adjust_cell_length(self.size.width, faint)

    def _pointer_column(self) -> int:
        if self.pointer is None:
            return -1
        return min(self._plot_width - 1, int((self.pointer - self.shown.first) / self.shown.span * self._plot_width))

    def _draw_title(self, panel: Panel, width: int) -> Strip:
        dim = self._style("dim")
        left = [Segment(f" {panel.title:<{_LABEL_WIDTH}} ", self._style("foreground", bold=True))]
        right: list[Segment] = []
        if self.pointer is None:
            for series in panel.series if len(panel.series) > 1 else ():
                if not series.has_legend:
                    continue
                symbol = series.mark if series.kind == "marks" else _SYMBOLS[series.kind]
                right += [Segment(f"   {series.name} ", dim), Segment(symbol, self._style(series.colour))]
        else:
            step, values = reading(panel, self.pointer)
            right.append(Segment(f"step {step:,}", dim))
            for series, value in values:
                right += [Segment(f"   {series.name} ", dim), Segment(f"{value:.4g}", self._style(series.colour, bold=True))]
        room = width - sum(segment.cell_length for segment in left) - 1
        legend = Strip(right).crop(0, max(0, room))
        gap = Segment(" " * max(0, room - legend.cell_length), dim)
        return Strip([*left, gap, *legend, Segment(" ", dim)]).adjust_cell_length(width, dim)

    def _with_flags(self, lines: list[Strip], panel: Panel) -> list[Strip]:
        """The first row of the plot with labels laid over it, each at its step, or left of it where there is no room."""
        strip = lines[1]
        for flag in panel.flags:
            share = (flag.step - self.shown.first) / self.shown.span
            if not 0 <= share <= 1:
                continue
            at = _LABEL_WIDTH + 2 + int(share * (self._plot_width - 1))
            text = f"{flag.text} ▾" if at + len(flag.text) + 2 > self.size.width else f"▾ {flag.text}"
            begin = at - len(text) + 1 if text.endswith("▾") else at
            if begin > _LABEL_WIDTH + 1:
                end = begin + len(text)
                word = Strip([Segment(text, self._style(flag.colour))])
                strip = Strip.join([strip.crop(0, begin), word, strip.crop(end, self.size.width)])
        return [lines[0], strip, *lines[2:]]

    def _draw_axis(self, width: int) -> list[Strip]:
        dim, faint = self._style("dim"), self._style("faint")
        line, text = axis(self.shown, self._plot_width)
        pad = " " * (_LABEL_WIDTH + 1)
        return [
            Strip([Segment(pad + "└" + line, faint)]).adjust_cell_length(width, faint),
            Strip([Segment(pad + " " + text, dim)]).adjust_cell_length(width, dim),
        ]


def _differs(before: object, key: tuple[object, ...]) -> bool:
    return not isinstance(before, tuple) or any(a is not b and a != b for a, b in zip(before, key, strict=True))


def _thinned_line(x: Floats, y: Floats, width: int) -> tuple[Floats, Floats]:
    """Thinned, gaps preserved: a line must not run through a value that is not a number."""
    if np.isfinite(y).all():
        return chart_math.thinned(x, y, width * chart_math.CELL_COLUMNS)
    gaps = np.flatnonzero(~np.isfinite(y))
    parts_x: list[Floats] = []
    parts_y: list[Floats] = []
    for part_x, part_y in zip(np.split(x, gaps), np.split(y, gaps), strict=True):
        thin_x, thin_y = chart_math.thinned(part_x, part_y, width * chart_math.CELL_COLUMNS)
        parts_x += [thin_x, np.array([thin_x[-1] if len(thin_x) else 0.0])]
        parts_y += [thin_y, np.array([np.nan])]
    return np.concatenate(parts_x), np.concatenate(parts_y)


def _runs(box: _Box, row: int, colours: Sequence[Style], faint: Style, pointer: int) -> Iterable[Segment]:
    """The row's cells, neighbours of one colour together."""
    colour_row = box.colours[row]
    characters = [_BRAILLE[pattern] for pattern in box.cells[row].tolist()]
    for (mark_row, column), symbol in box.marks.items():
        if mark_row == row:
            characters[column] = symbol
    if pointer >= 0 and characters[pointer] == " ":
        characters[pointer] = "│"
    bounds = [0, *(np.flatnonzero(np.diff(colour_row)) + 1).tolist(), len(characters)]
    for begin, end in pairwise(bounds):
        number = int(colour_row[begin])
        yield Segment("".join(characters[begin:end]), faint if number < 0 else colours[number])


def panel_heights(count: int, rows: int) -> list[int]:
    """The first panel has most of the rows, each of the others a fourth at most."""
    if count == 1:
        return [rows]
    small = max(_LEAST_PANEL_ROWS, min(rows // 4, 8))
    return [rows - small * (count - 1), *[small] * (count - 1)]


def axis_labels(scale: Scale, rows: int) -> dict[int, str]:
    """Row of the plot → its label."""
    found = chart_math.ticks(scale, max(2, rows // 3))
    labels: dict[int, str] = {}
    for value in found:
        share = float(scale.share(np.array([value]))[0])
        row = min(rows - 1, max(0, int((1 - share) * rows)))
        labels.setdefault(row, chart_math.label(value, found))
    return labels


def axis(view: View, width: int) -> tuple[str, str]:
    """The line below a chart and its labels: `┬────┬──`, `0    200`."""
    line, text = ["─"] * width, [" "] * width
    for step in chart_math.step_ticks(view, width // 11):
        column = min(width - 1, int((step - view.first) / view.span * width))
        label = chart_math.step_label(step)
        begin = min(max(0, column - len(label) // 2), width - len(label))
        if begin < 0 or any(cell != " " for cell in text[max(0, begin - 1) : begin + len(label) + 1]):
            continue
        line[column] = "┬"
        text[begin : begin + len(label)] = label
    return "".join(line), "".join(text)


def reading(panel: Panel, step: float) -> tuple[int, list[tuple[Series, float]]]:
    """The optimizer step nearest to `step` that has a value, and what each curve that reaches it says there.

    Marks say the last value before, as long as a curve of their colour goes on (any curve where none has it).
    """
    curves = [series for series in panel.series if series.kind != "marks" and len(series.x)]
    nearest = min(
        (_nearest(series.x, step) for series in curves), key=lambda found: abs(found - step), default=float(round(step))
    )
    ends = {series.colour: float(series.x[-1]) for series in sorted(curves, key=lambda series: float(series.x[-1]))}
    values: list[tuple[Series, float]] = []
    for series in panel.series:
        if not len(series.x):
            continue
        if series.kind == "marks":
            index = int(np.searchsorted(series.x, max(step, nearest), "right")) - 1
            if index < 0 or nearest > ends.get(series.colour, max(ends.values(), default=nearest)):
                continue
        else:
            index = int(np.argmin(np.abs(series.x - nearest)))
            if abs(float(series.x[index]) - nearest) > _spacing(series.x, index) / 2:
                continue  # it ended before, or began after
        values.append((series, float(series.y[index])))
    return int(nearest), values


def _nearest(x: Floats, step: float) -> float:
    index = int(np.searchsorted(x, step))
    around = x[max(0, index - 1) : index + 1]
    return float(around[np.argmin(np.abs(around - step))])


def _spacing(x: Floats, index: int) -> float:
    """Steps between a point and its neighbour; 1 for a point alone."""
    return max(1.0, float(np.diff(x[max(0, index - 1) : index + 2]).max(initial=1.0)))
