"""Training never starts unasked; what is asked in which way, and what the terminal is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from humigence_tui.cli.shared.options import training_asked
from pipeline.common.errors import BadInput
from tests.humigence_tui.cli.terminals import Terminal
from tests.processes import humigence


@pytest.mark.parametrize(
    ("value", "flag", "asked"),
    [
        *((None, False, False), (None, True, True), ("1", True, True), ("", False, False)),
        *(
            ("1", False, True),
            ("true", False, True),
            ("TRUE", False, True),
            ("0", True, False),
            ("false", True, False),
            ("", True, False),
        ),
    ],
)
def test_the_variable_wins_over_the_flag(monkeypatch: pytest.MonkeyPatch, value: str | None, flag: bool, asked: bool) -> None:
    monkeypatch.delenv("TRAIN", raising=False)
    if value is not None:
        monkeypatch.setenv("TRAIN", value)
    assert training_asked(flag) is asked


@pytest.mark.parametrize("value", ["yes", "2", "on", "-1", "tru"])
def test_any_other_value_is_refused_and_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRAIN", value)
    with pytest.raises(BadInput, match=f"TRAIN={value}"):
        training_asked(True)


@pytest.mark.parametrize(
    ("command", "variables", "told"),
    [
        ("train", {}, "training was not asked for"),
        ("train --train", {"TRAIN": "0"}, "TRAIN=0 forbids it"),
        ("train --train", {"TRAIN": ""}, "training was not asked for"),
        ("pipeline --train", {"TRAIN": "maybe"}, "TRAIN=maybe"),
        ("pipeline", {"VALIDATION_ONLY": "perhaps"}, "VALIDATION_ONLY=perhaps"),
        ("train --train", {"VALIDATION_ONLY": "perhaps"}, "VALIDATION_ONLY=perhaps"),
    ],
)
def test_what_is_refused_leaves_no_run(workspace: Path, command: str, variables: dict[str, str], told: str) -> None:
    done = humigence(*command.split(), cwd=workspace, **variables)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("answer", ["n\n", "no\n", "\x04"])
def test_pipeline_without_training_asks_and_a_no_runs_nothing(workspace: Path, answer: str) -> None:
    with Terminal("pipeline", cwd=workspace) as terminal:
        terminal.until("[Y/n]")
        assert "Training is disabled by default. Run pipeline without training?" in terminal.text
        terminal.type(answer)
        assert terminal.end() == 130
        assert "nothing was run" in terminal.text
    assert list(workspace.iterdir()) == []


def test_an_answer_that_is_neither_is_asked_again(workspace: Path) -> None:
    with Terminal("pipeline", cwd=workspace) as terminal:
        terminal.until("[Y/n]")
        terminal.type("maybe\n")
        terminal.until(lambda text: text.count("[Y/n]") == 2)
        terminal.type("n\n")
        assert terminal.end() == 130


def test_ctrl_c_at_the_question_stops_quietly(workspace: Path) -> None:
    with Terminal("pipeline", cwd=workspace) as terminal:
        terminal.until("[Y/n]")
        terminal.ctrl_c()
        assert terminal.end() == 130
        assert "Traceback" not in terminal.text
