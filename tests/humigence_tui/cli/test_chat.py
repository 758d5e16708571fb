"""A conversation in the terminal: what was said before is in the next prompt, and Ctrl-C ends an answer only."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from humigence_tui.cli import chat as module
from humigence_tui.cli.chat import Talk
from humigence_tui.cli.shared.answering import Sampling
from pipeline.common.errors import BadInput

HOW = Sampling(8, 0.0, 0)


class Echo:
    """Answers with how many messages it was asked with; notes them."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    def pieces(self, messages: Sequence[Any], _how: Sampling) -> Iterator[str]:
        self.asked.append([(each["role"], each["content"]) for each in messages])
        if messages[-1]["content"] == "refused":
            raise BadInput("the chat template refuses it")
        yield f"{len(messages)}"
        if messages[-1]["content"] == "long":
            raise KeyboardInterrupt
        yield "."


def said(*lines: str, system: str = "") -> list[list[tuple[str, str]]]:
    model = Echo()
    talk = Talk(model, HOW, system)  # type: ignore[arg-type]
    assert [talk.take(line) for line in lines].count(False) == lines.count("/end")
    return model.asked


def test_what_was_said_before_is_asked_with() -> None:
    assert said("One?", "Two?", system="Be brief.")[1] == [
        ("system", "Be brief."), ("user", "One?"), ("assistant", "2."), ("user", "Two?"),
    ]  # fmt: skip


def test_a_conversation_begins_again_and_takes_back_a_turn() -> None:
    assert said("One?", "/new", "Two?")[1] == [("user", "Two?")]
    assert said("One?", "Two?", "/undo", "Three?")[2] == [("user", "One?"), ("assistant", "1."), ("user", "Three?")]
    assert said("One?", "/system Rhyme.", "Two?")[1] == [("system", "Rhyme."), ("user", "Two?")]


def test_an_answer_that_is_ended_stays_as_far_as_it_came() -> None:
    assert said("long", "Two?")[1] == [("user", "long"), ("assistant", "1"), ("user", "Two?")]


def test_a_question_that_the_template_refuses_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("refused", "Two?")[1] == [("user", "Two?")]
    assert "the chat template refuses it" in capsys.readouterr().err


def test_lines_of_a_pipe_are_answered_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Any
) -> None:
    monkeypatch.setattr(module, "loaded", lambda *_, **__: Echo())
    monkeypatch.setattr("sys.stdin", io.StringIO("One?\n\nTwo?\n/end\nThree?\n"))
    module.chat()
    assert capsys.readouterr().out == "1.\n3.\n"


def test_what_a_temperature_of_0_would_pass_over_is_refused() -> None:
    with pytest.raises(BadInput, match="leaves nothing"):
        Sampling(8, 0.0, 0, top_p=0.9)
    with pytest.raises(BadInput, match="--stop is empty"):
        Sampling(8, 0.0, 0, stops=("",))
