"""Whatever a log, a file name, a setting, an argument or a library says, it is shown, and the terminal does none of it."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import main as command_line
from humigence_tui.cli.main import main
from pipeline.common.text import safe
from pipeline.runs import events as ev
from pipeline.runs.folders import RunFolder
from tests.conftest import chat_row, write_jsonl
from tests.hostile_text import EVIL, EVIL_NAME, EVIL_TEXT, SEQUENCES, control_characters, poison
from tests.humigence_tui.cli.terminals import Terminal

Recorded = Callable[..., RunFolder]
EVENTS = (
    ev.AttemptStarted(1, "m", "m", "qlora_nf4", True, "CPU"),
    ev.Note("note", "warning"),
    ev.StepStarted("validate"),
    ev.StepFinished("validate", "done", 1.0, "summary"),
    ev.HeldOut("val", 1, 1, 2.0, 1.0, 0.1, 0.2),
    ev.Answered("prompt", "base", "tuned", (), ("reason",)),
    ev.Packed("artifacts/x", "peft_adapter", 1),
    ev.GateJudged("held-out loss", "failed", 1.0, 2.0, "%", "explanation", "next"),
    ev.RunFailed("message", "hint", 4),
)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command printed, after checking that a terminal would only have shown it."""
    main(list(arguments))
    out, err = capsys.readouterr()
    assert not control_characters(out + err), arguments
    return out + err


def test_a_hostile_log_is_shown_by_every_command_that_reads_one(
    recorded: Recorded, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(recorded(EVENTS, project="evil"))
    run = recorded(EVENTS, project="named", run_id="2026-11-23_09-31-00")
    poison(run)
    run.path.parent.rename(run.path.parent.with_name(EVIL_NAME))
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["runs", "show"],
        ["runs", "show", "evil/", "--json"],
        ["runs", "follow", "evil/"],
    ):
        assert "OWNED" in told(capsys, *command)


def test_hostile_names_settings_and_arguments_are_shown_in_errors_too(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "c.json").write_text(json.dumps({"data": {"raw_path": EVIL_TEXT}, "export": {"artifacts_dir": EVIL_TEXT}}))
    (workspace / EVIL_NAME).write_text("{\n")
    (workspace / "bad.json").write_text(
        json.dumps({"data": {"raw_path": EVIL_TEXT, EVIL_TEXT: EVIL_TEXT}, EVIL_TEXT: 1, "seed": EVIL_TEXT})
    )
    for arguments in (
        ["config", "view", "--config", "c.json"],
        ["config", "get", "data.raw_path", "--config", "c.json"],
        ["config", "get", "export", "--config", "c.json"],
        ["config", "set", "data.raw_path", EVIL_NAME, "--config", "c.json"],
        ["config", "set", "model.local_path", EVIL_TEXT, "--config", "c.json", "--json"],
        ["config", "set", "seed", EVIL_TEXT],
        ["config", "view", "--config", "bad.json"],
        ["config", "view", "--config", EVIL_NAME],
        ["preprocess", "--config", "c.json"],
        ["preprocess", "--config", "bad.json"],
        ["runs", "show", EVIL_TEXT],
        ["pipeline", "--OWNED" + EVIL_TEXT],
        [EVIL],
    ):
        assert "OWNED" in told(capsys, *arguments), arguments
    (workspace / "half.json").write_text(json.dumps({"data": {"raw_path": EVIL}}))
    assert "data.raw_path: holds half a character" in told(capsys, "config", "view", "--config", "half.json")


def test_a_hostile_row_is_told_of_and_not_obeyed(workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [chat_row("What is it?", "It is it.")]
    rows += [{"messages": [{"role": sequence + "x", "content": sequence}]} for sequence in SEQUENCES.values()]
    rows += [{sequence: 1, "messages": [{"role": "user"}]} for sequence in SEQUENCES.values()]
    path = write_jsonl(workspace / "rows.jsonl", [])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with path.open("ab") as file:
        file.write(EVIL_TEXT.encode() + b"\n" + b'{"a": 1, "' + b"\x1b]0;OWNED" + b'": 1}\n' + b'{"\x9b\x1b[2J": "\xff"}\n')
        file.write(json.dumps({"\x1b]52;": 1}).encode()[:-1] + b', "\\u001b]52;": 2}\n')
    (workspace / "c.json").write_text(
        json.dumps({"model": {"local_path": str(tiny_model)}, "compute": {"gpu": "cpu"}, "data": {"raw_path": "rows.jsonl"}})
    )
    assert "OWNED" in told(capsys, "data", "show", "--config", "c.json", "--limit", "99")
    for command in (["validate"], ["preprocess", "--json"], ["data", "stats"], ["data", "show", "--rejected"]):
        assert "is not system, developer, user, assistant or tool" in told(capsys, *command, "--config", "c.json")


class HostileModel:
    """Says a sequence in pieces: none of them alone is one."""

    def pieces(self, _messages: object, _how: object) -> Iterator[str]:
        yield from EVIL

    def answers(self, conversations: list[object], _how: object) -> list[str]:
        return [EVIL for _ in conversations]


def test_what_a_model_answers_is_shown_and_not_obeyed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("humigence_tui.cli.shared.answering.base_alone", lambda *_: HostileModel())
    write_jsonl(workspace / "prompts.jsonl", [{"prompt": EVIL_TEXT}, {"prompt": "x"}])
    for asked in (["--prompt", EVIL_TEXT], ["--prompt", "x", "--json"], ["--prompts", "prompts.jsonl"]):
        assert "OWNED" in told(capsys, "infer", "--base", *asked)


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_a_library_prints_is_shown_and_not_obeyed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = SEQUENCES[name].replace("\ud83d", "?")

    class Chatty(command_line.Commands):
        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            print(f"<{sequence}>")
            print(f"<{sequence}>", file=sys.stderr)
            warnings.warn(sequence, stacklevel=1)
            logger = logging.Logger("library")
            logger.addHandler(logging.StreamHandler())
            logger.error("logged %s", sequence)
            raise RuntimeError(sequence)

    monkeypatch.setattr(command_line.typer.main.get_command(command_line._root).__class__, "get_command", Chatty.get_command)
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"warned {message}\n"))
    assert main(["version", "--debug"]) == 1
    out, err = capsys.readouterr()
    assert not control_characters(out + err)
    shown = safe(sequence, lines=True)
    assert f"<{shown}>" in out and f"<{shown}>" in err and f"logged {shown}" in err and f"warned {shown}" in err
    assert "Traceback" in err


def test_the_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    assert main(["version"]) == 0
    assert (sys.stdout, sys.stderr) == before


def test_on_a_terminal_only_our_own_colours_are_sequences(recorded: Recorded, workspace: Path) -> None:
    poison(recorded([*EVENTS[:-1], ev.RunFailed(EVIL_TEXT, EVIL_TEXT, 4)], project="evil"))
    for command in (
        ["runs", "show"],
        ["runs", "follow"],
        ["runs"],
        ["runs", "show", EVIL_TEXT],
        [os.fsdecode(EVIL_TEXT.encode())],
    ):
        with Terminal(*command, cwd=workspace, COLUMNS="2000") as terminal:
            terminal.end()
            received = terminal.raw.decode("utf-8", "replace")
        assert "OWNED" in received
        for sequence in ("\x1b]", "\x1b[2J", "\x1b[6n", "\x9b", "\x9d", "\x90", "\u202e", "\u2066", "\x05", "\x85", "\u2028"):
            assert sequence not in received, (command, sequence)
