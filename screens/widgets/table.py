"""A list of rows in columns, with a cursor: columns that do not fit are left out, the least important first.

Drawn line by line, so a thousand rows cost what is in view.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

_GAP = 2


@dataclass(frozen=True)
class Column:
    """`width`: cells it needs; `grows` takes a share of what is left over. A column of higher `rank` is left out sooner."""

    title: str
    width: int
    align: Literal["left", "right"] = "left"
    grows: int = 0
    rank: int = 0


@dataclass(frozen=True)
class TableRow:
    """A cell for every column. `key` stays the same while the row's contents change."""

    key: Hashable
    cells: tuple[Content, ...]
    is_heading: bool = False  # cannot be chosen


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """`cursor` is the index of the chosen row; it stays with the row's key when the list changes."""

    DEFAULT_CSS = "Table { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "down", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("home", "first", "first row", show=False),
        Binding("end,G", "last", "last row", show=False),
    ]
    ALLOW_SELECT: ClassVar[bool] = False

    cursor: reactive[int] = reactive(0, repaint=False)

    class Moved(Message):
        """The cursor is on another row."""

    class Opened(Message):
        """A row was clicked twice, or clicked while the cursor was on it."""

    def __init__(self, columns: Sequence[Column], *, id: str | None = None, has_titles: bool = True) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._rows: tuple[TableRow, ...] = ()
        self._titles = 1 if has_titles else 0

    @property
    def rows(self) -> tuple[TableRow, ...]:
        return self._rows

    @property
    def key(self) -> Hashable | None:
        """The key of the row under the cursor."""
        return self._rows[self.cursor].key if self.cursor < len(self._rows) else None

    def show(self, rows: Sequence[TableRow]) -> None:
        """Replace the rows; the cursor stays on the row it was on, if that is still there."""
        key = self.key
        self._rows = tuple(rows)
        at = next((number for number, row in enumerate(self._rows) if row.key == key), min(self.cursor, max(0, len(rows) - 1)))
        while at < len(self._rows) - 1 and self._rows[at].is_heading:
            at += 1
        self.virtual_size = Size(self.size.width, len(self._rows) + self._titles)
        self.set_reactive(Table.cursor, at)
        self.refresh()
        self.post_message(self.Moved())

    def watch_cursor(self, before: int, cursor: int) -> None:
        self.scroll_to_region(Region(0, cursor, 1, 1 + self._titles), animate=False, x_axis=False)
        for number in (before, cursor):
            self.refresh_line(number + self._titles)
        self.post_message(self.Moved())

    def validate_cursor(self, cursor: int) -> int:
        return min(max(0, cursor), max(0, len(self._rows) - 1))

    def action_move(self, by: int) -> None:
        to = self.cursor + by
        while 0 <= to < len(self._rows) and self._rows[to].is_heading:
            to += 1 if by > 0 else -1
        if 0 <= to < len(self._rows):
            self.cursor = to

    def action_page(self, by: int) -> None:
        self.cursor += by * max(1, self.size.height - self._titles - 1)

    def action_first(self) -> None:
        self.cursor = next((number for number, row in enumerate(self._rows) if not row.is_heading), 0)

    def action_last(self) -> None:
        self.cursor = len(self._rows) - 1

    def on_click(self, event: events.Click) -> None:
        number = event.y - self._titles + self.scroll_offset.y
        if event.y < self._titles or not 0 <= number < len(self._rows) or self._rows[number].is_heading:
            return
        opens = number == self.cursor and self.has_focus
        self.cursor = number
        if opens:
            self.post_message(self.Opened())

    # ---------------------------------------------------------------------------------------------------- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        layout = widths(self.columns, width - 2)
        if y < self._titles:
            cells = [Content.styled(column.title, "$dim") for column in self.columns]
            return self._strip(cells, layout, width, None)
        number = y - self._titles + self.scroll_offset.y
        if number >= len(self._rows):
            return self._strip([], layout, width, None)
        row = self._rows[number]
        if row.is_heading:
            return self._line(Content(" ").join(row.cells).truncate(max(0, width - 2), ellipsis=True), width, None)
        return self._strip(row.cells, layout, width, "cursor-line" if number == self.cursor else None)

    def _strip(self, cells: Sequence[Content], layout: Sequence[int], width: int, background: str | None) -> Strip:
        return self._line(aligned(self.columns, cells, layout), width, background)

    def _line(self, line: Content, width: int, background: str | None) -> Strip:
        base = self.visual_style
        if background:
            base = base + type(base)(background=Color.parse(self.app.theme_variables[background]))
        mark = Segment("▌" if background and self.has_focus else " ", self._edge(background))
        strips = Visual.to_strips(self, line, width - 1, 1, base, apply_selection=False)
        strip = strips[0] if strips else Strip([])
        return Strip.join([Strip([mark]), strip]).extend_cell_length(width, base.rich_style)

    def _edge(self, background: str | None) -> Style:
        accent = Color.parse(self.app.theme_variables["accent"]).rich_color
        behind = Color.parse(self.app.theme_variables[background]) if background else self.background_colors[1]
        return Style(color=accent, bgcolor=behind.rich_color)


def widths(columns: Sequence[Column], room: int) -> list[int]:
    """Cells for each column, 0 for those left out."""
    shown = list(range(len(columns)))
    while len(shown) > 1 and sum(columns[index].width for index in shown) + _GAP * (len(shown) - 1) > room:
        shown.remove(max(shown, key=lambda index: (columns[index].rank, index)))
    spare = room - sum(columns[index].width for index in shown) - _GAP * (len(shown) - 1)
    shares = sum(columns[index].grows for index in shown)
    found = [0] * len(columns)
    for index in shown:
        column = columns[index]
        found[index] = max(1, column.width + (max(spare, min(spare, 0)) * column.grows // shares if shares else 0))
    return found


def aligned(columns: Sequence[Column], cells: Sequence[Content], layout: Sequence[int]) -> Content:
    """The cells in one line."""
    parts: list[Content] = []
    for column, cell, width in zip(columns, cells, layout, strict=False):
        if not width:
            continue
        cut = cell.truncate(width, ellipsis=True)
        pad = width - cut.cell_length
        parts.append(cut.pad_left(pad) if column.align == "right" else cut.pad_right(pad))
    return Content(" " * _GAP).join(parts)
