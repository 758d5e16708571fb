"""A line that is there while something is asked: what to search for, which row to go to."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static


class AskInput(Input):
    """Textual's, with its enter shown in the last line."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", "go")]


class AskLine(Horizontal):
    """Hidden until `ask`; enter answers, escape gives it up."""

    DEFAULT_CSS = """
    AskLine { height: 1; display: none; padding: 0 1; }
    AskLine.-asking { display: block; }
    AskLine > Static { width: auto; color: $dim; }
    AskLine > Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "give up"),
    ]

    class Answered(Message):
        def __init__(self, what: str, text: str) -> None:
            super().__init__()
            self.what = what
            self.text = text

    def compose(self) -> ComposeResult:
        yield Static()
        yield AskInput(disabled=True)  # hidden, it must not take the focus

    def ask(self, what: str, text: str = "") -> None:
        """Ask for `what`, with `text` there already."""
        self._what = what
        self.query_one(Static).update(Content(f"{what} "))
        field = self.query_one(Input)
        field.value, field.disabled = text, False
        self.add_class("-asking")
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_give_up()
        self.post_message(self.Answered(self._what, event.value.strip()))

    def action_give_up(self) -> None:
        self.remove_class("-asking")
        self.query_one(Input).disabled = True
        self.screen.set_focus(None)
