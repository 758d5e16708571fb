"""A chat as it stands: what was asked, and what base and tuned model answered, each with a history of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from textual.content import Content

from pipeline.common.text import duration, safe

Side = Literal["tuned", "base"]
State = Literal["waiting", "answering", "done", "stopped", "failed"]


@dataclass
class Answer:
    """One model's answer to one prompt, as far as it has come."""

    text: str = ""
    state: State = "waiting"
    note: str = ""  # why it stopped, or how long it took


@dataclass
class Turn:
    """A prompt and its answers; a side that is not there was never asked."""

    prompt: str
    answers: dict[Side, Answer] = field(default_factory=dict)


class Conversation:
    """Turns in order. Each side hears its own answers only."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    def ask(self, prompt: str) -> None:
        self.turns.append(Turn(prompt))

    def next_open(self, sides: Sequence[Side]) -> tuple[int, Side] | None:
        """The first answer that is missing: turn by turn, of the sides in their order."""
        for number, turn in enumerate(self.turns):
            for side in sides:
                if side not in turn.answers:
                    return number, side
        return None

    def messages(self, number: int, side: Side) -> list[dict[str, str]]:
        """What a side is given to answer turn `number`: the turns before that it answered, then the prompt."""
        messages = []
        for turn in self.turns[:number]:
            answer = turn.answers.get(side)
            if answer is not None and answer.text.strip():
                messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": answer.text}]
        return [*messages, {"role": "user", "content": self.turns[number].prompt}]

    def give_up(self, sides: Sequence[Side], note: str, state: State = "stopped") -> None:
        """Whatever is not answered yet stays as it is."""
        for turn in self.turns:
            for side in sides:
                answer = turn.answers.setdefault(side, Answer())
                if answer.state in ("waiting", "answering"):
                    answer.state, answer.note = state, note

    def last_answer(self, side: Side) -> str:
        """The newest answer of a side that says something."""
        answers = (turn.answers[side].text for turn in reversed(self.turns) if side in turn.answers)
        return next((text for text in answers if text.strip()), "")


def side_content(turns: Sequence[Turn], side: Side, beside: Side | None = None, width: int = 0) -> Content:
    """One side's conversation.

    Args:
        beside: the side that is seen next to it: each turn is as high as the higher of the two, so that both begin the next
            one in the same row. Needs the `width` both are wrapped at.
    """
    lines: list[Content] = []
    for turn in turns:
        lines += [Content("")] * bool(lines)
        own = _turn(turn, side)
        lines += own
        if beside is not None and width > 0:
            lines += [Content("")] * max(0, _rows(_turn(turn, beside), width) - _rows(own, width))
    return Content("\n").join(lines)


def _turn(turn: Turn, side: Side) -> list[Content]:
    prompt = Content.assemble(("▸ ", "$faint"), (safe(turn.prompt, lines=True), "bold"))
    return [prompt, *_answer(turn.answers.get(side))]


def _rows(lines: Sequence[Content], width: int) -> int:
    return sum(len(line.wrap(width)) for line in lines)


def _answer(answer: Answer | None) -> list[Content]:
    if answer is None or answer.state == "waiting":
        return [Content.styled("…", "$faint")]
    text = answer.text.strip("\n")
    lines = [Content(safe(text, lines=True))] if text.strip() else []
    if answer.state == "answering":
        return lines or [Content.styled("…", "$dim")]
    if not lines and answer.state == "done":
        lines = [Content.styled("(no answer)", "$dim")]
    colour = "$warning" if answer.state == "failed" else "$faint"
    return [*lines, *([Content.styled(safe(answer.note, lines=True), colour)] if answer.note else [])]


def took(tokens: int, seconds: float, cut: bool) -> str:
    """`131 tokens in 4.2 s, 31.2 tok/s`; says when the answer was cut at its longest."""
    rate = f", {tokens / seconds:,.1f} tok/s" if tokens and seconds > 0 else ""
    return f"{tokens:,} tokens in {duration(seconds)}{rate}" + ("; cut at the longest allowed" if cut else "")
