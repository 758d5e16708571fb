"""The log pane: the events as text, warnings alone, or what libraries print. Follows, searches, filters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.color import Color
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive, var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style as TextStyle
from textual.widget import Widget
from textual.widgets import Input

from screens.frame.run_snapshot import Level, LogLine, Snapshot
from screens.widgets.ask_line import AskInput
from screens.widgets.scrolling import SCROLL_BINDINGS, Scrolls

FILTERS = ("events", "warnings", "output")
_EMPTY = {
    "events": "nothing has happened yet", "warnings": "no warning so far", "output": "the libraries have printed nothing",
}  # fmt: skip
_COLOURS: dict[Level, str] = {
    "info": "foreground", "good": "foreground", "warning": "warning", "error": "error", "dim": "dim", "output": "foreground",
}  # fmt: skip
_TIME_WIDTH = len("09:31:04") + 2


class _Row(NamedTuple):
    """A line of the screen: the part of a log line that fits into the width."""

    line: LogLine
    text: str
    is_first: bool


class LogLines(Scrolls, ScrollView, can_focus=True, inherit_bindings=False):
    """The lines. At its end it follows; scrolled up, it stays where it is."""

    BINDINGS: ClassVar[list[BindingType]] = SCROLL_BINDINGS
    ALLOW_SELECT: ClassVar[bool] = False
    needle: reactive[str] = reactive("")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[LogLine, ...] = ()
        self._rows: list[_Row] = []
        self._width = 0
        self._match: int | None = None
        self.empty = ""  # shown while there are no lines
        self.following = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.following = round(new_value) >= self.max_scroll_y

    def show(self, lines: tuple[LogLine, ...]) -> None:
        """Take the newest lines; only those that are new are laid out."""
        if lines is self._lines:
            return
        new = new_lines(self._lines, lines)
        self._lines = lines
        if new is None:
            self._lay_out()
        else:
            self._rows += [row for line in new for row in rows_of(line, self._width)]
            # What has dropped out of the lines stays for someone who reads there, but not for ever.
            if self.following or len(self._rows) > 4 * len(lines) + 1000:
                self._drop_old_rows()
        self._resized()

    def on_resize(self, event: events.Resize) -> None:
        if self.scrollable_content_region.width != self._width:
            self._lay_out()
        self._resized()

    def _lay_out(self) -> None:
        self._width = self.scrollable_content_region.width
        self._rows = [row for line in self._lines for row in rows_of(line, self._width)]

    def _drop_old_rows(self) -> None:
        first = self._lines[0] if self._lines else None
        gone = next((number for number, row in enumerate(self._rows) if row.line is first), 0)
        del self._rows[:gone]
        if self._match is not None:
            self._match = self._match - gone if self._match >= gone else None

    def _resized(self) -> None:
        following, before = self.following, self.virtual_size
        self.virtual_size = Size(self._width, len(self._rows))
        if following and self.virtual_size != before:
            self._to_end()
            # Once more when the layout has settled: what was the end may not be it any longer.
            self.call_after_refresh(self._to_end_if_following)
        self.refresh()

    def _to_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)
        self.following = True

    def _to_end_if_following(self) -> None:
        if self.following:
            self._to_end()

    def action_top(self) -> None:
        super().action_top()
        self.following = self.max_scroll_y == 0

    # ---------------------------------------------------------------------------------------------------- search

    def watch_needle(self) -> None:
        self._match = None
        self.refresh()

    def find_next(self, direction: int) -> int:
        """Go to the next row (+1) or the one before (-1) that holds the needle; returns how many there are."""
        needle = self.needle.casefold()
        found = [number for number, row in enumerate(self._rows) if needle and needle in row.text.casefold()]
        if not found:
            self._match = None
            return 0
        here = self._match if self._match is not None else (len(self._rows) if direction < 0 else -1)
        beyond = [number for number in found if (number - here) * direction > 0]
        self._match = (beyond[0] if direction > 0 else beyond[-1]) if beyond else found[0 if direction > 0 else -1]
        self.scroll_to_region(Region(0, self._match, 1, 1), animate=False, center=True, x_axis=False)
        self.refresh()
        return len(found)

    # --------------------------------------------------------------------------------------------------- drawing

    def render_line(self, y: int) -> Strip:
        number = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        base = self._style("foreground")
        if number >= len(self._rows):
            first = [Segment(self.empty, self._style("dim"))] if number == 0 else []
            return Strip(first).adjust_cell_length(width, base)
        row = self._rows[number]
        segments = []
        if row.line.time is not None:
            time = datetime.fromtimestamp(row.line.time).strftime("%H:%M:%S") if row.is_first else ""
            segments.append(Segment(f"{time:<{_TIME_WIDTH}}", self._style("faint" if row.line.level == "dim" else "dim")))
        style = self._style(_COLOURS[row.line.level])
        segments += self._highlighted(row.text, style, number == self._match)
        return Strip(segments).adjust_cell_length(width, base)

    def _highlighted(self, text: str, style: Style, current: bool) -> list[Segment]:
        needle, at = self.needle.casefold(), 0
        found = text.casefold().find(needle) if needle else -1
        if found < 0 or len(text.casefold()) != len(text):
            return [Segment(text, style)]
        segments: list[Segment] = []
        lit = style + Style(reverse=True) if current else style + Style(underline=True, bold=True)
        while found >= 0:
            segments += [Segment(text[at:found], style), Segment(text[found : found + len(needle)], lit)]
            at = found + len(needle)
            found = text.casefold().find(needle, at)
        return [*segments, Segment(text[at:], style)]

    def _style(self, colour: str) -> Style:
        found = Color.parse(self.app.theme_variables.get(colour, "white"))
        return Style(color=found.rich_color, bgcolor=self.background_colors[1].rich_color)


def new_lines(before: Sequence[LogLine], now: Sequence[LogLine]) -> Sequence[LogLine] | None:
    """The lines of `now` that came after the last of `before`; None when they have nothing to do with each other."""
    if not before:
        return None
    last = before[-1]
    for index in range(len(now) - 1, -1, -1):
        if now[index] is last:
            return now[index + 1 :]
    return None


def rows_of(line: LogLine, width: int) -> list[_Row]:
    """`line` broken at words to fit beside its time."""
    room = max(10, width - (_TIME_WIDTH if line.time is not None else 0))
    if len(line.text) <= room and line.text.isascii():
        return [_Row(line, line.text, True)]
    parts = [part.plain for part in Content(line.text).wrap(room)] or [""]
    return [_Row(line, part, number == 0) for number, part in enumerate(parts)]


class LogView(Vertical):
    """Title, lines, and a field to search that is there when it is wanted."""

    DEFAULT_CSS = """
    LogView { height: 1fr; }
    LogView > #log-title { height: 1; }
    LogView > LogLines { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    LogView > #log-search { display: none; }
    LogView.-searching > #log-search { display: block; }
    """

    snapshot: var[Snapshot | None] = var(None)
    chosen: var[str] = var(FILTERS[0])

    class Title(Widget):
        """`log  events │ warnings │ output     follow ●`."""

        def render(self) -> Content:
            return self._view.title_line(self.content_size.width)

        @property
        def _view(self) -> LogView:
            assert isinstance(self.parent, LogView)
            return self.parent

        def on_click(self, event: events.Click) -> None:
            """A click on a filter takes it; on `follow`, the end of the log is gone to."""
            chosen = event.style.meta.get("log")
            if chosen in FILTERS:
                self._view.choose(str(chosen))
            elif chosen:
                self._view.follow()

    class Searched(Message):
        """The search field has closed."""

    def compose(self) -> ComposeResult:
        yield self.Title(id="log-title")
        yield LogLines(id="log-lines")
        yield AskInput(placeholder="search: ⏎ keeps it, n N next and previous, esc ends it", id="log-search", compact=True)

    def on_mount(self) -> None:
        self.watch(self.lines, "scroll_y", self._refresh_title, init=False)

    def _refresh_title(self) -> None:
        self.query_one("#log-title").refresh()

    @property
    def lines(self) -> LogLines:
        return self.query_one(LogLines)

    def title_line(self, width: int) -> Content:
        chosen = [
            Content.styled(name, "bold" if name == self.chosen else "$faint").stylize(TextStyle.from_meta({"log": name}))
            for name in FILTERS
        ]
        left = Content.assemble(("log   ", "$dim"), Content("  ").join(chosen))
        right = Content.assemble(("follow ", "$dim"), ("●", "$foreground") if self.lines.following else ("○", "$faint"))
        right = right.stylize(TextStyle.from_meta({"log": "follow"}))
        if self.lines.needle:
            right = Content.assemble((f"/{self.lines.needle}   ", "$dim"), right)
        gap = width - left.cell_length - right.cell_length
        return Content.assemble(left, " " * gap, right) if gap > 1 else left.truncate(width, ellipsis=True)

    def watch_snapshot(self) -> None:
        self._show()

    def watch_chosen(self) -> None:
        self._show()

    def _show(self) -> None:
        if self.snapshot is None or not self.is_mounted:
            return
        if self.chosen == "warnings":
            lines = tuple(line for line in self.snapshot.log if line.level in ("warning", "error"))
            lines = self.lines._lines if lines == self.lines._lines else lines
        else:
            lines = self.snapshot.log if self.chosen == "events" else self.snapshot.output
        self.lines.empty = _EMPTY[self.chosen]
        self.lines.show(lines)
        self._refresh_title()

    def next_filter(self) -> None:
        self.choose(FILTERS[(FILTERS.index(self.chosen) + 1) % len(FILTERS)])

    def choose(self, chosen: str) -> None:
        """Show another part of the log: events, warnings alone, or what libraries print."""
        self.chosen = chosen
        self.lines.scroll_end(animate=False, immediate=True)

    def follow(self) -> None:
        self.lines.scroll_end(animate=False, immediate=True)

    # ---------------------------------------------------------------------------------------------------- search

    def begin_search(self) -> None:
        self.add_class("-searching")
        self.query_one(Input).focus()

    def find(self, direction: int) -> None:
        self.lines.find_next(direction)
        self._refresh_title()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.lines.needle = event.value
        self.find(-1)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._end_search()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and self.has_class("-searching"):
            event.stop()
            self.query_one(Input).value = ""
            self.lines.needle = ""
            self._end_search()

    def _end_search(self) -> None:
        self.remove_class("-searching")
        self.lines.focus()
        self._refresh_title()
        self.post_message(self.Searched())
