"""A field for a path: what fits is listed below it as one types."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import Reactive, reactive
from textual.widget import Widget
from textual.widgets import Input

from screens.setup.path_completion import common_start, completions

_ROWS = 6


class Offers(Widget):
    """The paths that fit, drawn over what is below. It never takes the focus: the keys stay with the text."""

    DEFAULT_CSS = """
    Offers { display: none; overlay: screen; constrain: none inflect; height: auto; width: auto; min-width: 30; max-width: 60; }
    Offers.-open { display: block; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"offers--pointed", "offers--more"}

    paths: reactive[list[str]] = reactive(list, layout=True)
    pointed: reactive[int | None] = reactive(None)

    class Taken(Message):
        """A click took this one."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def _first(self) -> int:
        return max(0, (self.pointed or 0) - _ROWS + 1)

    def render(self) -> Content:
        first = self._first()
        lines = []
        for index, path in list(enumerate(self.paths))[first : first + _ROWS]:
            text = Content(f" {path} ").truncate(60, ellipsis=True)
            lines.append(text.stylize(self.get_visual_style("offers--pointed")) if index == self.pointed else text)
        left = len(self.paths) - first - _ROWS
        if left > 0:
            lines.append(Content(f" {left} more ").stylize(self.get_visual_style("offers--more")))
        return Content("\n").join(lines)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        index = self._first() + event.y
        if index < len(self.paths):
            self.post_message(self.Taken(self.paths[index]))


class PathPicker(Vertical):
    """One line of text and the list of what fits it.

    Tab completes as far as it is certain, then goes on; down and up choose in the list, enter takes, esc closes it.

    Args:
        root: what a relative path is relative to.
        suffixes: endings of the files that are offered (`.jsonl`).
    """

    DEFAULT_CSS = """
    PathPicker { height: 1; width: 1fr; }
    """

    class Changed(Message):
        """The text is another one."""

        def __init__(self, picker: PathPicker, value: str) -> None:
            super().__init__()
            self.picker, self.value = picker, value

        @property
        def control(self) -> PathPicker:
            return self.picker

    def __init__(
        self, value: str, root: Path, suffixes: Collection[str], *, placeholder: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._root, self._suffixes = root, suffixes
        self.input = PathInput(self, value, placeholder)
        self.offers = Offers()
        self._asked = 0

    def compose(self) -> ComposeResult:
        yield self.input
        yield self.offers

    @property
    def value(self) -> str:
        return self.input.value

    def show(self, value: str) -> None:
        """Another text, from outside: nothing is offered for it."""
        if value != self.input.value:
            with self.prevent(Input.Changed):
                self.input.value = value
                self.input.cursor_position = len(value)
        self.close()

    # -------------------------------------------------------------------------------------------------- the list

    @property
    def is_open(self) -> bool:
        return self.offers.has_class("-open")

    def close(self) -> None:
        self._asked += 1  # an answer still on its way opens nothing
        self.offers.remove_class("-open")
        self.offers.pointed = None

    async def _offer(self, text: str) -> None:
        """Look for what fits in a thread: a folder may be on a slow disk."""
        self._asked += 1
        asked = self._asked
        found = await asyncio.to_thread(completions, text, self._root, self._suffixes)
        if asked != self._asked or not self.input.has_focus:
            return
        self.offers.paths = found
        self.offers.pointed = None
        self.offers.set_class(bool(found) and found != [text], "-open")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, event.value))
        self.offer(event.value)

    def offer(self, text: str) -> None:
        """List what begins with `text`, once it is found."""
        self.run_worker(self._offer(text), group="completion", exclusive=True)

    def on_offers_taken(self, event: Offers.Taken) -> None:
        event.stop()
        self.take(event.path)

    def take(self, path: str) -> None:
        """Put `path` in; a folder goes on being completed."""
        self.input.value = path
        self.input.cursor_position = len(path)
        if not path.endswith("/"):
            self.close()
        self.input.focus()

    def move(self, by: int) -> None:
        """Point at the offer above or below; above the first is the text again."""
        at = -1 if self.offers.pointed is None else self.offers.pointed
        at = min(at + by, len(self.offers.paths) - 1)
        self.offers.pointed = at if at >= 0 else None

    def complete(self) -> bool:
        """Take what is pointed at, or complete as far as it is certain; False when there is nothing to complete."""
        pointed = self.offers.pointed
        path = self.offers.paths[pointed] if pointed is not None else common_start(self.value, self.offers.paths)
        if not self.is_open or path == self.value:
            return False
        self.take(path)
        return True


class PathInput(Input):
    """The text of a picker. Its keys mean the list while that is open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "down", "next path", show=False),
        Binding("up", "up", "path before", show=False),
        Binding("tab", "complete", "complete"),
        Binding("enter", "take", "take"),
        Binding("escape", "close", "close the list"),
    ]

    def __init__(self, picker: PathPicker, value: str, placeholder: str) -> None:
        super().__init__(value, placeholder=placeholder, compact=True, select_on_focus=False)
        self._picker = picker

    # Its width does not depend on the text: no new layout at each letter.
    value: Reactive[str] = reactive("", init=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`esc` is the screen's unless the list is open."""
        return self._picker.is_open if action == "close" else super().check_action(action, parameters)

    def action_down(self) -> None:
        """Into the list, or to the next field."""
        if self._picker.is_open:
            self._picker.move(1)
        else:
            self.screen.focus_next()

    def action_up(self) -> None:
        """Up in the list, or to the field before."""
        if self._picker.is_open:
            self._picker.move(-1)
        else:
            self.screen.focus_previous()

    def action_complete(self) -> None:
        """Complete as far as it is certain, or go on."""
        if not self._picker.complete():
            self.screen.focus_next()

    def action_take(self) -> None:
        """Take the path pointed at, or be done with this field."""
        if not (self._picker.is_open and self._picker.offers.pointed is not None and self._picker.complete()):
            self._picker.close()
            self.screen.focus_next()

    def action_close(self) -> None:
        """Close the list of what fits."""
        self._picker.close()

    def on_focus(self) -> None:
        if not self.value:
            self._picker.offer("")

    def on_blur(self) -> None:
        self._picker.close()
