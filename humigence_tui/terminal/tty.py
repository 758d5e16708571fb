"""The terminal of the full-screen app: nothing but the app writes to it, and when it vanishes the app ends in good order.

Libraries, drivers and child processes write to file descriptors 1 and 2 from C, past anything Python can redirect. So those two
are pointed at a log for as long as the app has the screen, and the app writes to a descriptor of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from textual.drivers.linux_driver import LinuxDriver

# No mouse, no focus, no bracketed paste, no keyboard protocol, the first screen, a cursor.
_GIVE_BACK = b"\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m\r\n"


class Tty:
    """What the app writes to. Once the terminal is gone, everything written is dropped and `on_gone` has been called.

    With a hung-up terminal every write fails: Textual's writer thread would end, its queue fill up, and the event loop block for
    ever.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._attributes = _attributes(fd)
        self.gone = False
        self._on_gone: Callable[[], object] = lambda: None

    @property
    def on_gone(self) -> Callable[[], object]:
        return self._on_gone

    @on_gone.setter
    def on_gone(self, call: Callable[[], object]) -> None:
        """`call` is called at once where the terminal has gone already."""
        self._on_gone = call
        if self.gone:
            call()

    def watch(self) -> None:
        """Notice in a thread that the terminal hangs up: where SIGHUP is ignored (`nohup`) nothing else tells, and reading from
        it gives nothing for ever.
        """
        threading.Thread(target=self._wait_for_hangup, name="humigence-terminal", daemon=True).start()

    def _wait_for_hangup(self) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)  # errors and hang-ups are told without being asked for
        poll.poll()
        self.lost()

    def restore(self) -> None:
        """As it was before the app: the mode in which keys are read, the screen, the cursor."""
        if self.gone or self._attributes is None:
            return
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
            os.write(self._fd, _GIVE_BACK)

    def write(self, text: str) -> int:
        data = text.encode(errors="replace")
        while data and not self.gone:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue
            except OSError:
                self.lost()
        return len(text)

    def lost(self) -> None:
        """The terminal is gone."""
        if not self.gone:
            self.gone = True
            self._on_gone()

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return not self.gone


def _attributes(fd: int) -> list[Any] | None:
    try:
        return termios.tcgetattr(fd)
    except (OSError, termios.error):
        return None


class TtyDriver(LinuxDriver):
    """Textual's driver, writing to the app's `Tty`, and outliving the terminal."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._tty: Tty = app.tty
        self._file = cast(Any, self._tty)

    def _get_terminal_size(self) -> tuple[int, int]:
        # Textual asks descriptor 1, which is no terminal here.
        try:
            size = os.get_terminal_size(self._tty.fileno())
        except OSError:
            return 80, 24
        return size.columns, size.lines

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except OSError:
            # Reading from a terminal that was hung up.
            self._tty.lost()


@contextlib.contextmanager
def own_terminal(log: Path) -> Iterator[Tty]:
    """The terminal for the app alone: descriptors 1 and 2 write to `log` until the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    screen = os.dup(2)
    try:
        with output_to(log, truncate=True):
            yield Tty(screen)
    finally:
        os.close(screen)


@contextlib.contextmanager
def output_to(log: Path, *, truncate: bool = False) -> Iterator[None]:
    """Whatever this process prints, from Python or from C, goes to `log` until the block ends."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if truncate else os.O_APPEND), 0o600)
    saved = [(number, os.dup(number)) for number in (1, 2)]
    _flush()
    for number, _ in saved:
        os.dup2(fd, number)
    file = os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="replace")
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = file
    try:
        yield
    finally:
        # Textual puts its own in place when it ends; then there is nothing of ours left to undo.
        if sys.stdout is file:
            sys.stdout = before[0]
        if sys.stderr is file:
            sys.stderr = before[1]
        _flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        file.close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
