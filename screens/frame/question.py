"""A question: one sentence, two or three answers, the safe one first and focused. Enter takes it, Esc too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

_SHARE, _FRAME = 0.92, 8  # of the screen's width at most for the box; its border and padding (page.tcss)
_WIDEST = 70


@dataclass(frozen=True)
class Answer:
    """`danger` paints an answer that loses something."""

    value: str
    label: str
    danger: bool = False


class AnswerButton(Widget, can_focus=True):
    """One answer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "choose", "choose", show=False)]

    class Chosen(Message):
        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, answer: Answer) -> None:
        super().__init__(classes="answer -danger" if answer.danger else "answer")
        self.answer = answer

    def render(self) -> Content:
        return Content(self.answer.label)

    def action_choose(self) -> None:
        self.post_message(self.Chosen(self.answer.value))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_choose()


class Question(ModalScreen[str]):
    """Ends with the value of the answer chosen; Esc gives the first one, which must be the safe one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "safe", "the safe answer", show=False),
        Binding("left,h,up,k,shift+tab", "move(-1)", "previous answer", show=False),
        Binding("right,l,down,j,tab", "move(1)", "next answer", show=False),
    ]

    def __init__(self, question: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._question = question
        self._answers = tuple(answers)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(Content(self._question), id="question")
            with Horizontal(id="answers") as answers:
                # Textual measures an automatic row by its widest child, not by their sum.
                answers.styles.width = sum(cell_len(answer.label) + 4 for answer in self._answers)
                for answer in self._answers:
                    yield AnswerButton(answer)

    def on_resize(self, event: events.Resize) -> None:
        # A part of an automatic width is no width: without this, a long sentence is cut at the box instead of broken.
        room = int(event.size.width * _SHARE) - _FRAME
        self.query_one("#question").styles.max_width = max(10, min(_WIDEST, room))

    def on_mount(self) -> None:
        self.query(AnswerButton).first().focus()

    def on_answer_button_chosen(self, message: AnswerButton.Chosen) -> None:
        self.dismiss(message.value)

    def action_safe(self) -> None:
        self.dismiss(self._answers[0].value)

    def action_move(self, by: int) -> None:
        buttons = list(self.query(AnswerButton))
        # `focus()` and `has_focus` take their turn: of two quick presses the second would start from the same answer.
        at = next((number for number, button in enumerate(buttons) if button is self.focused), 0)
        self.set_focus(buttons[(at + by) % len(buttons)])
