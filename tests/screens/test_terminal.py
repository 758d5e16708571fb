"""The whole program in a real terminal: what it leaves behind, and what happens when the terminal vanishes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

from pipeline import runs
from pipeline.config import Config
from pipeline.runs import RunFolder, Workspace
from tests.processes import IMPORT_PATH

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 60.0


class Terminal:
    """A pseudo-terminal with the app in it, and what its screen shows."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80, lines: int = 24, script: str = "") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._guard = threading.Lock()
        self.received = b""
        environment = {
            **os.environ,
            "PYTHONPATH": IMPORT_PATH,
            "TERM": "xterm-256color",
            "XDG_CACHE_HOME": str(folder / ".cache"),
        }
        command = [sys.executable, "-c", script] if script else [sys.executable, "-m", "humigence_tui"]
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            with self._guard:
                self.received += data
                # pyte knows no kitty keyboard protocol and takes it for something else.
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*u", b"", data))

    @property
    def text(self) -> str:
        with self._guard:
            return "\n".join(self._screen.display)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait(self, condition: Callable[[], object]) -> None:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < _PATIENCE_S, f"still not so:\n{self.text}"
            time.sleep(0.02)

    def says(self, words: str) -> None:
        self.wait(lambda: words in self.text)

    def vanish(self) -> None:
        """As when the connection drops."""
        os.close(self.master)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[bytes]]]:
    """A live run in a process and a session of its own."""
    run = runs.create(Workspace(tmp_path), Config(project="faithful"), {})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.screens.fake_worker", str(run.path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": IMPORT_PATH}, start_new_session=True,
    )  # fmt: skip
    yield run, process
    process.kill()
    process.wait()


def test_a_vanished_terminal_ends_the_app_and_not_the_run(
    tmp_path: Path, worker: tuple[RunFolder, subprocess.Popen[bytes]]
) -> None:
    run, process = worker
    first = Terminal(tmp_path)
    first.says("training")
    first.press("\r")
    first.says("detach")
    first.says("smoothed")
    first.vanish()
    assert first.process.wait(timeout=_PATIENCE_S) == 0
    seen = runs.read_state(run).step
    first.wait(lambda: runs.read_state(run).step > seen + 5)  # it goes on …
    (run.path / "finish").touch()
    assert process.wait(timeout=_PATIENCE_S) == 0  # … to its end
    second = Terminal(tmp_path)
    second.says("finished")
    second.press("\r")
    second.says(f"{runs.read_state(run).step:,} steps")
    second.says("smoothed")
    second.press("\x11")
    assert second.process.wait(timeout=_PATIENCE_S) == 0
    os.close(second.master)


def test_a_killed_worker_is_seen_to_be_gone(tmp_path: Path, worker: tuple[RunFolder, subprocess.Popen[bytes]]) -> None:
    _, process = worker
    terminal = Terminal(tmp_path)
    terminal.says("training")
    terminal.press("\r")
    terminal.says("detach")
    os.killpg(process.pid, signal.SIGKILL)
    terminal.says("the training process is gone")
    terminal.says("resume")
    terminal.press("\x11")
    assert terminal.process.wait(timeout=_PATIENCE_S) == 0
    os.close(terminal.master)


def test_a_resized_terminal_is_filled(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, columns=100, lines=30)
    terminal.says("No runs in this folder yet.")
    with terminal._guard:
        terminal._screen.resize(40, 120)
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    terminal.wait(lambda: "? keys" in terminal.text.splitlines()[39])
    terminal.press("q")
    assert terminal.process.wait(timeout=_PATIENCE_S) == 0
    os.close(terminal.master)


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
    terminal = Terminal(tmp_path, script=NOISY)
    terminal.says("No runs in this folder yet.")
    log = tmp_path / ".cache" / "humigence" / "app.log"
    terminal.wait(lambda: log.exists() and b"NOISE from C" in log.read_bytes() and b"NOISE from Python" in log.read_bytes())
    terminal.press("?")
    terminal.says("every")
    terminal.press("\x1b")
    terminal.press("\x11")
    assert terminal.process.wait(timeout=_PATIENCE_S) == 0
    # Up to where the app gives the terminal back.
    assert b"NOISE" not in terminal.received.partition(b"\x1b[?1049l")[0]
    os.close(terminal.master)


def test_without_a_terminal_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "humigence_tui"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "needs a terminal" in done.stderr
