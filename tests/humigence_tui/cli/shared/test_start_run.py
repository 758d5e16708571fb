"""Training never starts unasked; what is asked in which way, and what the terminal is told."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from humigence_tui.cli.shared.options import training_asked
from humigence_tui.cli.shared.start_run import _interrupts_ask_to_stop, run_to_end
from pipeline.common.errors import BadInput, Interrupted
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runner.launch import Started
from pipeline.runs import control, store
from pipeline.runs.folders import Workspace
from pipeline.runs.request import Request
from tests.humigence_tui.cli.terminals import Terminal
from tests.pilot import Records
from tests.pilot import records as records
from tests.processes import environment, humigence
from tests.waiting import PATIENCE_S, killed, next_line


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


_LINGERING = """
import os, sys
from pathlib import Path
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
from pipeline.system import locks
run = RunFolder(Path(sys.argv[1]))
lock = locks.try_lock(run.lock)
writer = EventWriter(run)
writer.emit(ev.AttemptStarted(os.getpid(), "demo", "tiny", "qlora_nf4", True))
writer.emit(ev.RunFailed("the data is empty", "add rows", 2))
writer.close()
lock.release()
print("ready", flush=True)
sys.stdin.read()  # as a process that gives a GPU back
"""


@pytest.mark.parametrize("stays", [False, True])
def test_the_command_returns_when_the_process_is_gone_and_says_when_it_is_not(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stays: bool
) -> None:
    run = store.create(Workspace(workspace), Config(project="demo"), {})
    command = [sys.executable, "-P", "-c", _LINGERING, str(run.path)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert worker.stdin is not None and "ready" in next_line(worker, worker.stdout)
    closing = threading.Timer(0.3, worker.stdin.close)
    if not stays:
        closing.start()
    monkeypatch.setattr(launch, "start", lambda *_: Started(run, worker=worker))
    monkeypatch.setattr(launch, "outlasts", partial(launch.outlasts, seconds=0.2 if stays else PATIENCE_S))
    try:
        code = run_to_end(
            Workspace(workspace), Config(project="demo"), Request(train=True), foreground=False, as_json=False, config_path=None
        )
        assert code == 2, "the run's own exit code"
        assert (worker.poll() is None) is stays
        told = capsys.readouterr().err
        assert ("its process" in told) is stays and (not stays or str(worker.pid) in told)
    finally:
        closing.cancel()
        killed(worker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_run_in_this_process_saves_at_the_first_signal_and_aborts_at_the_second(
    records: Records, number: signal.Signals
) -> None:
    run, before = records.write("running", project="support"), signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    try:
        with _interrupts_ask_to_stop(records.workspace, "support"):
            signal.raise_signal(number)
            assert control.stop_requested(run) == "save"
            with pytest.raises(Interrupted):
                signal.raise_signal(number)
            assert control.stop_requested(run) == "abort"
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
