"""The app in a real terminal: a pseudo-terminal that remembers what the screen shows, and can vanish."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte

from pipeline.config.schema import Config
from pipeline.runs import store
from pipeline.runs.folders import RunFolder, Workspace
from tests.processes import IMPORT_PATH, ROOT
from tests.waiting import PATIENCE_S, killed, wait_until

_APP = (sys.executable, "-m", "humigence_tui")


@contextmanager
def live_run(root: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[bytes]]]:
    """A run that is on, its worker in a process and a session of its own."""
    run = store.create(Workspace(root), Config(project="faithful"), {})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.screens.fake_worker", str(run.path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": IMPORT_PATH}, start_new_session=True,
    )  # fmt: skip
    try:
        yield run, process
    finally:
        killed(process)


class Terminal:
    """A pseudo-terminal with a program in it, and what its screen shows.

    Args:
        command: what runs in it: the app when not given.
        on_change: called in the reading thread after each piece of output, with the time (monotonic) it came.
        environment: changes to this process's environment.
    """

    def __init__(
        self, folder: Path, *arguments: str, columns: int = 80, lines: int = 24, command: Sequence[str] = _APP,
        on_change: Callable[[float], None] | None = None, **environment: str,
    ) -> None:  # fmt: skip
        self.master, slave = pty.openpty()
        self._size(lines, columns)
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._guard = threading.Lock()
        self._on_change = on_change
        self.received = b""
        self.spawned = time.monotonic()
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=folder, env=_environment(folder) | environment, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        # The thread must have let go of the descriptor before it is closed: its number is given to the next file opened,
        # and what belongs to that one would be read here. A read that waits also keeps the terminal from hanging up.
        self._stop, self._stopping = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left, whatever happened."""
        killed(self.process)
        self.vanish()

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self.master, self._stop], [], [])
            if self._stop in ready:
                return
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            came = time.monotonic()
            with self._guard:
                self.received += data
                # pyte knows no kitty keyboard protocol and takes it for something else.
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*u", b"", data))
            if self._on_change:
                self._on_change(came)

    @property
    def lines(self) -> list[str]:
        with self._guard:
            return list(self._screen.display)

    def line(self, number: int) -> str:
        """One line, for those who look often: making all of them takes milliseconds."""
        with self._guard:
            line = self._screen.buffer[number]
            return "".join(line[column].data for column in range(self._screen.columns))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def disturb(self, text: str) -> None:
        """Something else writes to the terminal."""
        with self._guard:
            self._stream.feed(text.encode())

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def rests(self, seconds: float) -> None:
        """Until nothing has come from the program for so long, but what comes by itself every second."""
        quiet = time.monotonic()
        seen = len(self.received)
        while time.monotonic() - quiet < seconds:
            time.sleep(0.01)
            if len(self.received) - seen > 2000:
                quiet, seen = time.monotonic(), len(self.received)

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        wait_until(condition, seconds=seconds, every_s=0.02, told=lambda: f"\n{self.text}")

    def says(self, *words: str, seconds: float = PATIENCE_S) -> None:
        """Wait until all of `words` are on the screen together."""

        seen = -1

        def said() -> bool:
            nonlocal seen
            if seen == (seen := len(self.received)):
                return False  # to draw what has not changed would take a tenth of a processor from who is waited for
            text = self.text
            return all(each in text for each in words)

        self.wait(said, seconds)

    def ends(self) -> int:
        """Wait for the program; its exit code."""
        return self.process.wait(timeout=PATIENCE_S)

    def resize(self, lines: int, columns: int) -> None:
        with self._guard:
            self._screen.resize(lines, columns)
        self._size(lines, columns)

    def _size(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def vanish(self) -> None:
        """As when the connection drops."""
        if self.master < 0:
            return
        os.write(self._stopping, b".")
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive()
        for fd in (self.master, self._stop, self._stopping):
            os.close(fd)
        self.master = -1


def _environment(folder: Path) -> dict[str, str]:
    """This process's, without what would change how the app looks."""
    left_out = ("COLUMNS", "LINES", "NO_COLOR", "TEXTUAL_COLOR_SYSTEM", "TRAIN")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": IMPORT_PATH, "TERM": "xterm-256color", "XDG_CACHE_HOME": str(folder / ".cache")}
