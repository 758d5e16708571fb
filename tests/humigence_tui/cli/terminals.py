"""The command on a terminal of its own: what is on the screen, what is typed."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.processes import environment
from tests.waiting import PATIENCE_S, killed


class Terminal:
    """A process whose standard streams are one terminal, 100 columns by 30 lines."""

    def __init__(self, *arguments: str, cwd: Path, **changes: str) -> None:
        self._screen = pyte.Screen(100, 30)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self._fd, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        kept = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"} | changes
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "humigence_tui.cli.main", *arguments],
            stdin=inner, stdout=inner, stderr=inner, cwd=cwd, env=environment(**kept), start_new_session=True,
        )  # fmt: skip
        os.close(inner)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        killed(self.process)
        os.close(self._fd)

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def until(self, seen: Callable[[str], bool] | str, seconds: float = PATIENCE_S) -> str:
        """Read until the screen satisfies `seen`; fails with the screen when it never does."""
        condition = seen if callable(seen) else lambda text: seen in text
        end = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < end, f"never seen; the screen is:\n{self.text}"
            ended = self.process.poll()  # before reading: what it wrote before it ended is then always read
            if not self._read(0.1) and ended is not None:
                assert condition(self.text), f"ended with {ended}; the screen is:\n{self.text}"
        return self.text

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + seconds
        while True:
            ended = self.process.poll()  # before reading, here too
            if not self._read(0.1) and ended is not None:
                return ended
            assert time.monotonic() < end, f"does not end; the screen is:\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # the other side is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)
