"""Waiting in tests: for what is seen, never for a while, and always with an end.

How long something takes depends on who else uses the machine. So no wait here is short: `PATIENCE_S` is spent only on what never
comes, and the test then says what it waited for instead of standing still with everything after it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

Item = TypeVar("Item")

PATIENCE_S = 120.0
# What loads torch and trains, evaluates and packs a tiny model, on a machine that does other things too.
WHOLE_RUN_S = 400.0


def wait_until(
    condition: Callable[[], object], *, seconds: float = PATIENCE_S, every_s: float = 0.01, told: Callable[[], object] = str
) -> None:
    """Look again and again; fails with what `told` says when it does not become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not so after {seconds:.0f} s {told()}"
        time.sleep(every_s)


def in_time(items: Iterable[Item], *, seconds: float = PATIENCE_S) -> Iterator[Item]:
    """`items`, which fail when they go on for longer: for what yields again and again while it waits."""
    end = time.monotonic() + seconds
    for item in items:
        yield item
        assert time.monotonic() < end, f"still going on after {seconds:.0f} s"


# ------------------------------------------------------------------------------------------------------- processes


def state_of(pid: int) -> str:
    """The letter the kernel has for what a process does: R, S, T (stopped by a signal), Z (dead) …; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    """Dead, or dead and not yet collected."""
    return state_of(pid) in ("", "Z", "X")


def see_it_stop(pid: int) -> None:
    """Until a signal has stopped the process. What continues it before that is lost, and it would stand still for ever."""
    wait_until(lambda: state_of(pid) == "T" or is_gone(pid), told=lambda: f"process {pid} is in state {state_of(pid)}")
    assert state_of(pid) == "T", f"process {pid} ended instead of standing still"


def go_on(pid: int) -> None:
    """Let a process that stops itself go on: once it has."""
    see_it_stop(pid)
    os.kill(pid, signal.SIGCONT)


def killed(process: subprocess.Popen[Any]) -> int:
    """Kill it if it lives, and collect it; its exit status."""
    process.kill()
    return process.wait(timeout=PATIENCE_S)


@contextmanager
def killed_when_late(process: subprocess.Popen[Any], seconds: float = PATIENCE_S) -> Iterator[None]:
    """Within this, a read from the process ends at the latest when it is killed for being late."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def next_line(process: subprocess.Popen[str], stream: IO[str] | None, seconds: float = PATIENCE_S) -> str:
    """The next line of one of its streams; empty when it ended, or was killed for being late."""
    assert stream is not None
    with killed_when_late(process, seconds):
        return stream.readline()


class Lines:
    """Lines from a pipe, each with a time by which it has come.

    Args:
        stream: unbuffered, so that nothing that came is out of sight.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left = stream, b""

    def next(self, seconds: float = PATIENCE_S) -> str:
        """The next line without its end; fails when it does not come, or the other side is gone."""
        end = time.monotonic() + seconds
        while b"\n" not in self._left:
            ready, _, _ = select.select([self._stream], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no answer in {seconds:.0f} s"
            data = os.read(self._stream.fileno(), 1 << 16)
            assert data, "the process that answers is gone"
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line.decode()
