"""The whole program in a real terminal: what it leaves behind, and what happens when the terminal vanishes."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runs import event_log
from pipeline.runs.folders import RunFolder, Workspace
from tests.processes import ROOT
from tests.recordings.make import write
from tests.terminal import Terminal, live_run
from tests.waiting import PATIENCE_S


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[bytes]]]:
    with live_run(tmp_path) as found:
        yield found


def test_a_vanished_terminal_ends_the_app_and_not_the_run(
    tmp_path: Path, worker: tuple[RunFolder, subprocess.Popen[bytes]]
) -> None:
    run, process = worker
    with Terminal(tmp_path) as first:
        first.says("training")
        first.press("\r")
        first.says("d detach", "smoothed")
        first.vanish()
        assert first.ends() == 0
        seen = event_log.read_state(run).step
        first.wait(lambda: event_log.read_state(run).step > seen + 5)  # it goes on …
    (run.path / "finish").touch()
    assert process.wait(timeout=PATIENCE_S) == 0  # … to its end
    with Terminal(tmp_path) as second:
        second.says("finished")
        second.press("\r")
        second.says(f"{event_log.read_state(run).step:,} steps", "smoothed")
        second.press("\x11")
        assert second.ends() == 0


def test_a_killed_worker_is_seen_to_be_gone(tmp_path: Path, worker: tuple[RunFolder, subprocess.Popen[bytes]]) -> None:
    _, process = worker
    with Terminal(tmp_path) as terminal:
        terminal.says("training")
        terminal.press("\r")
        terminal.says("d detach")
        os.killpg(process.pid, signal.SIGKILL)
        terminal.says("the training process is gone", "R resume")
        # The terminal is told too, for whoever looks elsewhere: a bell, and words for its desktop.
        terminal.wait(lambda: b"\x1b]9;faithful: its process is gone at step" in terminal.received)
        assert b"\x07" in terminal.received
        terminal.press("\x11")
        assert terminal.ends() == 0


def test_a_resized_terminal_is_filled(tmp_path: Path) -> None:
    with Terminal(tmp_path, columns=100, lines=30) as terminal:
        terminal.says("No runs in this folder yet.")
        terminal.resize(40, 120)
        terminal.wait(lambda: "? keys" in terminal.lines[39])
        terminal.press("q")
        assert terminal.ends() == 0


def test_what_another_program_wrote_over_the_screen_goes_when_it_is_drawn_again(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.says("No runs in this folder yet.", "? keys")
        before = terminal.lines[:20]
        terminal.disturb("\x1b[2J\x1b[5;5HBroadcast message from root")
        terminal.press("\x0c")
        terminal.says("No runs in this folder yet.", "? keys")
        assert "Broadcast" not in terminal.text
        assert terminal.lines[:20] == before
        terminal.press("q")
        assert terminal.ends() == 0


def test_quick_presses_each_count(tmp_path: Path, worker: tuple[RunFolder, subprocess.Popen[bytes]]) -> None:
    """As a key that is held down gives them: the answer two to the right is aborting, and that is what is asked for."""
    run, _ = worker
    with Terminal(tmp_path) as terminal:
        terminal.says("training")
        terminal.press("\r")
        terminal.says("d detach", "smoothed")
        terminal.press("x")
        terminal.says("stop and save")
        terminal.press("\x1b[C\x1b[C\r")
        terminal.wait(run.stop_request.exists)
        terminal.wait(lambda: run.stop_request.read_text() == "abort\n")
        terminal.press("\x11")
        terminal.says("leave it running")
        terminal.press("\r")
        assert terminal.ends() == 0


def test_what_is_copied_goes_through_the_terminal(tmp_path: Path) -> None:
    """OSC 52: over SSH too, and through tmux."""
    run = write(Workspace(tmp_path), "finished")
    with Terminal(tmp_path) as terminal:
        terminal.says("finished", "? keys")
        terminal.press("Y")
        terminal.says("Copy to the clipboard", "folder")
        terminal.press("\r")
        sent = b"\x1b]52;c;" + base64.b64encode(str(run.path).encode()) + b"\a"
        terminal.wait(lambda: sent in terminal.received)
        terminal.press("\x11")
        assert terminal.ends() == 0


NOISY = """
import ctypes, os, sys, threading, time
from humigence_tui import app as app_module
libc = ctypes.CDLL(None)
def shout():
    while True:
        libc.puts(b"NOISE from C"); libc.fflush(None)
        os.write(2, b"NOISE to descriptor 2\\n")
        print("NOISE from Python", file=sys.__stderr__, flush=True)
        time.sleep(0.01)
before = app_module.HumigenceApp.on_mount
def on_mount(self):
    before(self)
    threading.Thread(target=shout, daemon=True).start()
app_module.HumigenceApp.on_mount = on_mount
from humigence_tui.__main__ import main
sys.exit(main([]))
"""


def test_nothing_a_library_prints_lands_on_the_screen(tmp_path: Path) -> None:
    with Terminal(tmp_path, command=(sys.executable, "-c", NOISY)) as terminal:
        terminal.says("No runs in this folder yet.")
        log = tmp_path / ".cache" / "humigence" / "app.log"
        terminal.wait(lambda: log.exists() and b"NOISE from C" in log.read_bytes() and b"NOISE from Python" in log.read_bytes())
        terminal.press("?")
        terminal.says("everywhere")
        terminal.press("\x1b")
        # An escape and a key that come together are another key.
        terminal.wait(lambda: "everywhere" not in terminal.text)
        terminal.press("\x11")
        assert terminal.ends() == 0
        # Up to where the app gives the terminal back.
        assert b"NOISE" not in terminal.received.partition(b"\x1b[?1049l")[0]


def test_without_a_terminal_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "humigence_tui"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 4
    assert "needs a terminal" in done.stderr


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
@pytest.mark.parametrize("command", ["humigence_tui", "humigence_tui.cli.main"])
def test_a_terminal_that_cant_draw_is_told_what_is_needed(tmp_path: Path, kind: str, command: str) -> None:
    arguments = ["wizard"] if command.endswith("main") else []
    with Terminal(tmp_path, *arguments, command=(sys.executable, "-m", command), TERM=kind) as terminal:
        terminal.says("needs a terminal that can place text", f"TERM={kind}", "without one")
        assert terminal.ends() == 4


_NOHUP = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "


@pytest.mark.parametrize("program", ["humigence_tui.__main__", "humigence_tui.cli.main"])
def test_where_nobody_tells_of_a_hang_up_the_app_notices_it(tmp_path: Path, program: str) -> None:
    """Started below `nohup`, or by a job that ignores SIGHUP: reading from the terminal then gives nothing, for ever."""
    code = f"{_NOHUP}from {program} import main; sys.argv[1:] = {['wizard'] if 'cli' in program else []}; sys.exit(main())"
    with Terminal(tmp_path, command=(sys.executable, "-c", code)) as terminal:
        terminal.says("? keys")
        terminal.vanish()
        assert terminal.ends() == 0


_GONE_BEFORE = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from humigence_tui import app as app_module
before = app_module.HumigenceApp.on_mount
def on_mount(self):
    while not self.tty.gone:
        time.sleep(0.01)
    before(self)
app_module.HumigenceApp.on_mount = on_mount
from humigence_tui.__main__ import main
print("mounting", flush=True)
sys.exit(main([]))
"""


def test_a_terminal_that_goes_before_the_first_screen_ends_the_app_too(tmp_path: Path) -> None:
    with Terminal(tmp_path, command=(sys.executable, "-c", _GONE_BEFORE)) as terminal:
        terminal.wait(lambda: b"\x1b[?1049h" in terminal.received)
        terminal.vanish()
        terminal.ends()


_STUCK = """
import sys
from humigence_tui.terminal import last_resort
last_resort.PATIENCE_S = 0.5
from humigence_tui import app as app_module
def for_ever(self):
    while True:
        pass
app_module.HumigenceApp.action_next_theme = for_ever
from humigence_tui.__main__ import main
sys.exit(main([]))
"""


@pytest.mark.parametrize("by", ["hang-up", "SIGTERM"])
def test_an_app_whose_loop_no_longer_answers_ends_all_the_same_and_gives_the_terminal_back(tmp_path: Path, by: str) -> None:
    with Terminal(tmp_path, command=(sys.executable, "-c", _STUCK)) as terminal:
        terminal.says("No runs in this folder yet.")
        terminal.press("\x14")
        terminal.rests(0.3)
        terminal.vanish() if by == "hang-up" else terminal.process.terminate()
        assert terminal.ends() == 1
        if by == "SIGTERM":
            terminal.wait(lambda: b"\x1b[?1049l" in terminal.received and b"\x1b[?25h" in terminal.received)
    assert "for_ever" in (tmp_path / ".cache" / "humigence" / "app.log").read_text()  # what kept it
