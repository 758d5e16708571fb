"""A list of choices of which one (or several) is taken; those that can't be taken stay in it and say why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

_GAP = 2  # columns between choices that stand side by side


@dataclass(frozen=True)
class Option:
    """One choice.

    Attributes:
        detail: what stands beside it, dim.
        reason: why it can't be taken on this machine; empty when it can. Stands where the detail would.
        about: more than one line has room for, shown where the cursor is.
        always: stays in the list whatever it is filtered by.
    """

    value: Any
    label: str
    detail: str = ""
    reason: str = ""
    about: str = ""
    always: bool = False

    def matches(self, words: str) -> bool:
        """Whether each of the words is somewhere in it."""
        text = " ".join((self.label, self.detail, self.reason, self.about)).lower()
        return self.always or all(word in text for word in words.lower().split())


@dataclass(frozen=True)
class Cell:
    """Where an option stands: in which row, at which column, and the note that follows it."""

    index: int
    row: int
    start: int
    note: str = ""

    def end(self, options: Sequence[Option]) -> int:
        return self.start + 2 + cell_len(options[self.index].label)


def flowed(options: Sequence[Option], width: int) -> list[Cell]:
    """Options side by side, wrapped at `width`. Neighbours that can't be taken for one reason show it once, after the last."""
    cells: list[Cell] = []
    row = column = 0
    for index, option in enumerate(options):
        following = options[index + 1] if index + 1 < len(options) else None
        note = option.reason or option.detail
        if option.reason and following is not None and following.reason == option.reason:
            note = ""
        needed = 2 + cell_len(option.label) + (_GAP + cell_len(note) if note else 0)
        if column and column + needed > width:
            row, column = row + 1, 0
        cells.append(Cell(index, row, column, note))
        column += needed + _GAP
    return cells


def listed(options: Sequence[Option], words: str = "") -> list[Cell]:
    """Options below each other: those that match the words."""
    shown = [(index, option) for index, option in enumerate(options) if option.matches(words)]
    return [Cell(index, row, 0, option.reason or option.detail) for row, (index, option) in enumerate(shown)]


def _widths(options: Sequence[Option]) -> list[int]:
    return [len(each.label + each.reason) for each in options]


class Choices(Widget, can_focus=True):
    """Arrows (or hjkl) move the cursor, enter or space takes what it is on. Moving past an end goes on to the next field.

    Args:
        flow: side by side instead of below each other.
        multiple: several can be taken; the value is a tuple then.
        window: rows shown at most, scrolled with the cursor; 0 for all.
        filterable: `/` begins a filter: what is typed then narrows the list, until enter takes a choice or escape ends it.
    """

    DEFAULT_CSS = """
    Choices { height: auto; width: 1fr; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "choices--cursor", "choices--taken", "choices--disabled", "choices--note",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move_row(-1)", "up", show=False),
        Binding("down,j", "move_row(1)", "down", show=False),
        Binding("left,h", "move(-1)", "choice before", show=False),
        Binding("right,l", "move(1)", "next choice", show=False),
        Binding("home", "jump(0)", "first choice", show=False),
        Binding("end", "jump(-1)", "last choice", show=False),
        Binding("enter,space", "take", "choose", key_display="⏎"),
        Binding("slash", "filter", "filter"),
    ]

    options: reactive[tuple[Option, ...]] = reactive(())
    value: reactive[Any] = reactive(None)
    cursor: reactive[int] = reactive(0)
    window: reactive[int] = reactive(0)
    filter: reactive[str | None] = reactive(None)

    class Changed(Message):
        """The person took (or gave back) a choice."""

        def __init__(self, choices: Choices, value: Any) -> None:
            super().__init__()
            self.choices, self.value = choices, value

        @property
        def control(self) -> Choices:
            return self.choices

    class Pointed(Message):
        """The cursor is on another choice now. `refused`: it was asked for and can't be taken."""

        def __init__(self, choices: Choices, option: Option, refused: bool = False) -> None:
            super().__init__()
            self.choices, self.option, self.refused = choices, option, refused

        @property
        def control(self) -> Choices:
            return self.choices

    def __init__(
        self, options: Iterable[Option], value: Any, *, flow: bool = False, multiple: bool = False, window: int = 0,
        filterable: bool = False, id: str | None = None, classes: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes=classes)
        self.flow, self.multiple, self.filterable = flow, multiple, filterable and not flow
        self._first_row = 0
        self.set_reactive(Choices.options, tuple(options))
        self.set_reactive(Choices.value, value)
        self.set_reactive(Choices.window, window)
        self._to_taken()

    # ------------------------------------------------------------------------------------------------ what it is

    def show(self, options: Iterable[Option], value: Any) -> None:
        """Other options or another value, from outside: the cursor stays on its option while the person is here."""
        pointed = self.pointed.value if self.pointed else None
        self.options = tuple(options)
        self.value = value
        if not self.has_focus:
            self._to_taken()
        elif same := [index for index, option in enumerate(self.options) if option.value == pointed]:
            self.cursor = same[0]
        self.cursor = min(self.cursor, max(0, len(self.options) - 1))
        self._into_the_shown()

    def watch_window(self) -> None:
        self._set_height()

    def watch_options(self, before: tuple[Option, ...], now: tuple[Option, ...]) -> None:
        # Free memory in a detail changes all the time; only other widths can mean other rows.
        if self.flow and (_widths(before) != _widths(now) or self._rows_of(before) != self._rows_of(now)):
            self.refresh(layout=True)
        self._set_height()

    def _rows_of(self, options: Sequence[Option]) -> int:
        cells = flowed(options, self.content_size.width)
        return cells[-1].row if cells else 0

    def _set_height(self) -> None:
        # Rows below each other do not depend on the width; set as a style, their number reaches every container.
        rows = max(1, min(len(self.options), self.window or len(self.options)))
        if not self.flow and (self.styles.height is None or self.styles.height.value != rows):
            self.styles.height = rows

    def _to_taken(self) -> None:
        taken = [index for index in range(len(self.options)) if self.is_taken(index)]
        self.cursor = taken[0] if taken else 0

    def is_taken(self, index: int) -> bool:
        value = self.options[index].value
        return value in self.value if self.multiple else type(value) is type(self.value) and bool(value == self.value)

    @property
    def pointed(self) -> Option | None:
        """The option the cursor is on."""
        return self.options[self.cursor] if self.options else None

    # --------------------------------------------------------------------------------------------------- drawing

    def cells(self, width: int) -> list[Cell]:
        return flowed(self.options, width) if self.flow else listed(self.options, self.filter or "")

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        cells = self.cells(width)
        rows = cells[-1].row + 1 if cells else 1
        return min(rows, self.window) if self.window else rows

    def render(self) -> Content:
        width = self.content_size.width
        cells = self.cells(width)
        if not cells:
            return Content("")
        rows = cells[-1].row + 1
        shown = min(rows, self.window) if self.window else rows
        at = next((cell.row for cell in cells if cell.index == self.cursor), 0)
        self._first_row = max(0, min(max(self._first_row, at - shown + 1), at, rows - shown))
        visible = range(self._first_row, self._first_row + shown)
        lines = [self._line([cell for cell in cells if cell.row == row], width) for row in visible]
        if visible.start > 0:
            lines[0] = self._with_more(lines[0], f"↑ {visible.start}", width)
        if visible.stop < rows:
            lines[-1] = self._with_more(lines[-1], f"↓ {rows - visible.stop}", width)
        if self.filter is not None:
            lines[0] = self._with_more(lines[0], f"/{self.filter}▏ {rows} of {len(self.options)}", width)
        return Content("\n").join(lines)

    def _line(self, cells: list[Cell], width: int) -> Content:
        line = Content("")
        for cell in cells:
            line = line.pad_right(cell.start - line.cell_length) if cell.start else line
            line = line + self._option(cell)
        return line.truncate(width, ellipsis=True)

    def _option(self, cell: Cell) -> Content:
        option = self.options[cell.index]
        taken = self.is_taken(cell.index)
        kind = "disabled" if option.reason and not taken else "taken" if taken else ""
        style = self.get_visual_style(f"choices--{kind}") if kind else ""
        on = self.has_focus and cell.index == self.cursor
        label = Content(option.label).stylize(self.get_visual_style("choices--cursor") if on else style)
        text = Content.assemble(Content(self._mark(option, taken)).stylize(style), " ", label)
        if cell.note:
            column = 0 if self.flow else max(cell_len(each.label) for each in self.options)
            text = text.pad_right(max(0, column - cell_len(option.label)) + _GAP)
            text = text + Content(cell.note).stylize(self.get_visual_style("choices--note"))
        return text

    def _mark(self, option: Option, taken: bool) -> str:
        if self.multiple:
            return "■" if taken else "◌" if option.reason else "□"
        return "●" if taken else "◌" if option.reason else "○"

    def _with_more(self, line: Content, text: str, width: int) -> Content:
        left = line.truncate(width - cell_len(text) - 1, ellipsis=True)
        more = Content(text).stylize(self.get_visual_style("choices--note"))
        return left.pad_right(width - left.cell_length - cell_len(text)) + more

    # --------------------------------------------------------------------------------------------------- the keys

    def action_move_row(self, by: int) -> None:
        """A row up or down; in a flow, and past an end, to the neighbouring field."""
        shown = self._shown()
        at = shown.index(self.cursor) + by if self.cursor in shown else -1
        if self.flow or not 0 <= at < len(shown):
            self._leave(by)
        else:
            self._point(shown[at])

    def action_move(self, by: int) -> None:
        """The choice before or after, where they stand side by side."""
        if self.flow and 0 <= self.cursor + by < len(self.options):
            self._point(self.cursor + by)

    def action_jump(self, index: int) -> None:
        """The first or the last choice."""
        if shown := self._shown():
            self._point(shown[index % len(shown)])

    def action_take(self) -> None:
        """Take what the cursor is on, if it can be taken."""
        option = self.pointed
        if option is None:
            return
        if option.reason and not (self.multiple and self.is_taken(self.cursor)):
            self.post_message(self.Pointed(self, option, refused=True))
            return
        value = self._toggled(option.value) if self.multiple else option.value
        if value != self.value or type(value) is not type(self.value):
            self.value = value
            self.post_message(self.Changed(self, value))
        self.filter = None

    def _toggled(self, value: Any) -> tuple[Any, ...]:
        if value in self.value:
            return tuple(each for each in self.value if each != value)
        return tuple(option.value for option in self.options if option.value in self.value or option.value == value)

    def point_at(self, value: Any) -> None:
        """The cursor on the choice of this value."""
        for index, option in enumerate(self.options):
            if option.value == value:
                self._point(index)

    def _point(self, index: int) -> None:
        self.cursor = index
        self.post_message(self.Pointed(self, self.options[index]))

    def _leave(self, by: int) -> None:
        if by < 0:
            self.screen.focus_previous()
        else:
            self.screen.focus_next()

    def on_focus(self) -> None:
        if self.pointed is not None:
            self.post_message(self.Pointed(self, self.pointed))

    def on_blur(self) -> None:
        # Of a list with a window, what was taken must be in view once nobody is in it.
        self.filter = None
        self._to_taken()

    # ------------------------------------------------------------------------------------------------ the filter

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a list that can be filtered has a key for it."""
        return self.filterable if action == "filter" else True

    def action_filter(self) -> None:
        """Letters narrow the list from here on."""
        self.filter = ""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """While it is filtered, letters are text."""
        return self.filter is not None and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """What is typed into the filter; the keys that move and take stay what they are."""
        if self.filter is None:
            return
        if event.key == "escape":
            self.filter = None
        elif event.key == "backspace":
            self.filter = self.filter[:-1] if self.filter else None
        elif event.is_printable and event.character:
            self.filter += event.character
        else:
            return
        event.stop()
        event.prevent_default()

    def watch_filter(self) -> None:
        self._into_the_shown(first=bool(self.filter))
        self.refresh_bindings()

    def _shown(self) -> list[int]:
        """The options that the filter leaves."""
        return [index for index, option in enumerate(self.options) if option.matches(self.filter or "")]

    def _into_the_shown(self, *, first: bool = False) -> None:
        """The cursor on an option that the filter leaves; `first`: on the first, whatever it was on."""
        shown = self._shown()
        if shown and (first or self.cursor not in shown) and self.cursor != shown[0]:
            self.cursor = shown[0]
            if self.has_focus:
                self.post_message(self.Pointed(self, self.options[self.cursor]))

    def on_click(self, event: events.Click) -> None:
        """A click takes the choice under it."""
        for cell in self.cells(self.content_size.width):
            beside = self.flow and not cell.start <= event.x < cell.end(self.options)
            if cell.row == event.y + self._first_row and not beside:
                self._point(cell.index)
                self.action_take()
                return
