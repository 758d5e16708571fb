"""The app dies, the worker dies, both die: what goes on, and what the next app shows."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runs import event_log
from pipeline.runs.folders import RunFolder
from tests.faults.declared import survives
from tests.terminal import Terminal, live_run
from tests.waiting import PATIENCE_S

_LEAVES_ALTERNATE_SCREEN = b"\x1b[?1049l"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[bytes]]]:
    with live_run(tmp_path) as found:
        yield found


@survives(
    "death",
    "kill -9, SIGTERM, SIGINT or SIGHUP of the app",
    "while it follows a live run",
    "the run goes on; where the app could, it left the terminal as it was; the next app attaches to the live run",
)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
def test_an_app_that_dies_takes_nothing_with_it(
    tmp_path: Path, live: tuple[RunFolder, subprocess.Popen[bytes]], name: str
) -> None:
    run, process = live
    with Terminal(tmp_path) as first:
        first.says("training")
        first.press("\r")
        first.says("d detach", "smoothed")
        first.process.send_signal(getattr(signal, name))
        ended = first.ends()
        assert (ended == -signal.SIGKILL) == (name == "SIGKILL")
        if name in ("SIGTERM", "SIGINT"):
            first.wait(lambda: _LEAVES_ALTERNATE_SCREEN in first.received)
            assert b"Traceback" not in first.received
        seen = event_log.read_state(run).step
        first.wait(lambda: event_log.read_state(run).step > seen + 5)
    assert process.poll() is None
    with Terminal(tmp_path) as second:
        second.says("training")
        second.press("\r")
        second.says("d detach", "smoothed")
    assert process.poll() is None


@survives(
    "death",
    "kill -9 of the app and the worker together",
    "in the middle of training",
    "the next app shows that the training process is gone, after which step, and offers to resume",
)
def test_after_the_death_of_both_the_next_app_says_so(tmp_path: Path, live: tuple[RunFolder, subprocess.Popen[bytes]]) -> None:
    run, process = live
    with Terminal(tmp_path) as first:
        first.says("training")
        first.process.kill()
        os.killpg(process.pid, signal.SIGKILL)
        first.ends()
    process.wait(timeout=PATIENCE_S)
    with Terminal(tmp_path) as second:
        second.says("crashed")
        second.press("\r")
        second.says(f"the training process is gone after optimizer step {event_log.read_state(run).step:,}", "R resume")
        second.press("\x11")
        assert second.ends() == 0
