"""Following a run: lines without a terminal, one line redrawn with one."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from humigence_tui.cli.shared.display import LiveDisplay, PlainDisplay, display
from pipeline.runs import control
from pipeline.runs.folders import RunFolder
from tests.humigence_tui.cli.conftest import STARTED, trained_steps
from tests.humigence_tui.cli.live_run import LIVE
from tests.humigence_tui.cli.terminals import Terminal
from tests.processes import environment, humigence, started
from tests.waiting import PATIENCE_S, killed, next_line

Recorded = Callable[..., RunFolder]


def test_without_a_terminal_there_is_no_escape_sequence_and_no_redrawing(recorded: Recorded, workspace: Path) -> None:
    recorded([STARTED, *trained_steps(4)])
    done = humigence("runs", "follow", cwd=workspace, TERM="xterm-256color")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr


@pytest.mark.parametrize(
    ("is_terminal", "kind", "expected"),
    [(True, "xterm", LiveDisplay), (False, "xterm", PlainDisplay), (True, "dumb", PlainDisplay), (True, "", PlainDisplay)],
)
def test_only_a_terminal_that_can_redraw_is_redrawn(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: str, expected: type
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr("sys.stderr", Stream())
    monkeypatch.setenv("TERM", kind)
    assert type(display()) is expected


def test_on_a_terminal_the_last_line_shows_step_share_loss_rate_and_time_left(recorded: Recorded, workspace: Path) -> None:
    run = recorded([])
    worker = started(LIVE, run.path)
    try:
        with Terminal("runs", "follow", cwd=workspace) as terminal:
            shown = terminal.until(lambda text: "tok/s" in text and "left" in text)
            line = next(line for line in shown.splitlines() if "tok/s" in line)
            assert line.startswith("▶ train  ")
            assert "of 600" in line
            assert "loss 2.000" in line
            control.request_stop(run, "save")
            terminal.until("is saved")
            assert terminal.end() == 130
            assert "tok/s" not in terminal.text, "the line that was redrawn is gone"
    finally:
        killed(worker)


def test_no_color_is_honoured(recorded: Recorded, workspace: Path) -> None:
    recorded([STARTED, *trained_steps(4)])
    with Terminal("runs", "show", cwd=workspace) as terminal:
        terminal.end()
        assert b"\x1b[31m" in terminal.raw, "a crash is red"
    with Terminal("runs", "show", cwd=workspace, NO_COLOR="1") as terminal:
        terminal.end()
        assert b"\x1b[3" not in terminal.raw


def test_a_terminal_that_cannot_redraw_gets_lines(recorded: Recorded, workspace: Path) -> None:
    recorded([STARTED, *trained_steps(4)])
    with Terminal("runs", "follow", cwd=workspace, TERM="dumb") as terminal:
        terminal.end()
        assert b"\x1b" not in terminal.raw


_STUBBORN = """
import os, signal, sys, time
from pathlib import Path
from pipeline.runs import control; from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
from pipeline.system import locks
run = RunFolder(Path(sys.argv[1]))
lock = locks.try_lock(run.lock)
writer = EventWriter(run)
writer.emit(ev.AttemptStarted(os.getpid(), "demo", "tiny", "qlora_nf4", True))
def woken(*_):
    writer.emit(ev.RunStopped(control.stop_requested(run) or "save", None))
    os._exit(130)
signal.signal(signal.SIGTERM, woken)
print("ready", flush=True)
while True:
    time.sleep(0.1)  # an optimizer step that takes for ever
"""
_FOLLOWER = """
import sys
from pathlib import Path
from humigence_tui.cli.shared.follow import follow_started
from pipeline.runs.folders import RunFolder
sys.exit(follow_started(RunFolder(Path(sys.argv[1])), after_seq=0, as_json=False))
"""


def test_a_second_ctrl_c_aborts_a_run_whose_step_does_not_end(recorded: Recorded) -> None:
    run = recorded([])
    worker = started(_STUBBORN, run.path)
    follower = subprocess.Popen(
        [sys.executable, "-c", _FOLLOWER, str(run.path)], stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert "run demo/" in next_line(follower, follower.stderr)
        follower.send_signal(signal.SIGINT)
        assert "Ctrl-C again aborts" in next_line(follower, follower.stderr)
        assert control.stop_requested(run) == "save"
        assert follower.poll() is None, "it keeps following"
        follower.send_signal(signal.SIGINT)
        _, told = follower.communicate(timeout=PATIENCE_S)
        assert worker.wait(PATIENCE_S) == 130
    finally:
        killed(follower)
        killed(worker)
    assert "aborting" in told
    assert follower.returncode == 130
    assert control.stop_requested(run) == "abort"
