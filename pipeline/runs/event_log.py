"""The event log of a run: written by its worker alone, read and followed by everybody else.

A full disk pauses the run that writes instead of ending it, and a line that a crash cut short is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.common.errors import EnvironmentFault
from pipeline.common.files import fsync_folder
from pipeline.common.redact import redactor
from pipeline.runs.control import is_alive
from pipeline.runs.disk_wait import wait_for
from pipeline.runs.events import Envelope, Event, StepProgress, TrainStep, readable, to_line
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState
from pipeline.system.disk import Reserve, is_full

_CHILDREN_DIE_S = 5.0  # forked loaders of a killed worker hold the log open a moment longer than it
_ENOUGH_BYTES = 1 << 20  # more than one line: with less it would stop again at the next
# Lost by a power cut without harm; everything else is flushed to disk as it is written.
_NOT_FLUSHED = (StepProgress, TrainStep)
_TAIL_BYTES = 1 << 16
_PIECE_BYTES = 8 << 20
# Of a log that is no log: a line is never read whole into memory whatever its length.
_LONGEST_LINE = 64 << 20
_LONGEST_LINE_BACKWARDS = 4 << 20


class EventWriter:
    """Appends events to a run's log. One at a time: whoever holds the run's lock."""

    def __init__(self, run: RunFolder) -> None:
        self._fd = _opened_log(run.events)
        _drop_torn_line(self._fd)
        self.seq, last_attempt = _last_numbers(self._fd)
        self.attempt = last_attempt + 1
        self._redact = redactor()

    def is_alone(self) -> bool:
        """Whether no other process writes this log; if so, none will that asks, as long as this writer is open.

        The run's lock is a file of its own, and somebody may have deleted that for a stale one. The log nobody deletes.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without such locks: the run's own lock has to do
            return True
        return True

    def emit(self, event: Event) -> None:
        """Write one event; on disk when this returns, unless a power cut may lose it without harm."""
        # Counted first: a signal handler may raise once the line is written, and no number may be used twice.
        self.seq += 1
        line = to_line(Envelope(self.seq, time.time(), self.attempt, event))
        if not isinstance(event, TrainStep):  # numbers alone, and by the thousand
            line = self._redact(line)
        data = (line + "\n").encode("utf-8", "backslashreplace")  # lone surrogates of file names, as JSON spells them
        try:
            _write_all(self._fd, data)
        except BaseException as error:
            _drop_torn_line(self._fd)  # a full disk takes a part of a line
            if isinstance(error, OSError):
                self.seq -= 1
            raise
        if not isinstance(event, _NOT_FLUSHED):
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _opened_log(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    fsync_folder(path.parent)
    return fd


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _drop_torn_line(fd: int) -> None:
    """Cut off a last line without its newline: its writer died, the event never happened."""
    size = os.fstat(fd).st_size
    position = size
    while position > 0:
        start = max(0, position - _TAIL_BYTES)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        os.ftruncate(fd, position)


def _last_numbers(fd: int) -> tuple[int, int]:
    """(seq, attempt) of the newest event in a log that ends with a whole line, of a kind this version knows or not."""
    return next(filter(None, map(_numbers, _lines_backwards(fd))), (0, 0))


def _lines_backwards(fd: int) -> Iterator[bytes]:
    """The lines of a log, the last one first. One that no writer of ours can have made comes as what is left of it."""
    end, rest = os.fstat(fd).st_size, b""
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        first, *others = os.pread(fd, end - start, start).split(b"\n")
        if others:
            others[-1] += rest
            yield from reversed(others)
            rest = b""
        rest = first + rest if len(rest) < _LONGEST_LINE_BACKWARDS else rest
        end = start
    yield rest


def newest_seq(run: RunFolder) -> int:
    """The number of the newest event in the run's log; 0 before the first."""
    try:
        fd = os.open(run.events, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _last_numbers(fd)[0]
    finally:
        os.close(fd)


def _numbers(line: bytes) -> tuple[int, int] | None:
    try:
        document = json.loads(line)
        return int(document["seq"]), int(document["attempt"])
    except (ValueError, KeyError, TypeError):
        return None


class RunLog:
    """Appends events. One at a time: whoever holds the run's lock.

    Attributes:
        stop: whether the person asked to stop; looked at while the disk is full.
    """

    def __init__(self, run: RunFolder, also: Callable[[Event], None] | None = None) -> None:
        """`also` sees each event after it is in the log. Raises `EnvironmentFault` when another process writes it."""
        self._also = also
        self.stop: Callable[[], object] = lambda: None
        self._folder: Path = run.path
        self._reserve = Reserve(run.path / ".reserve")
        self._writer = EventWriter(run)
        began = time.monotonic()
        while not self._writer.is_alone():
            if time.monotonic() - began > _CHILDREN_DIE_S:
                self._writer.close()
                raise EnvironmentFault(
                    f"run {run.run_id} is busy: another process writes its log, though its lock file is gone",
                    "pgrep -af pipeline.runner.worker  # shows it; kill PID lets it save and stop",
                )
            time.sleep(0.1)
        self._reserve.hold()

    def emit(self, event: Event) -> None:
        """Write one event as soon as there is room, then pass it to `also`.

        Raises:
            Stopped: the person asked to stop while there was none.
        """
        self._write(event)
        if self._also:
            self._also(event)

    def _write(self, event: Event) -> None:
        try:
            self._writer.emit(event)
        except OSError as error:
            if not is_full(error):
                raise
            self._write_when_there_is_room(event)

    def _write_when_there_is_room(self, event: Event) -> None:
        self._reserve.release()
        if self.stop():  # how it ends fits into what was reserved for it
            self._writer.emit(event)
            return
        needed = _ENOUGH_BYTES + Reserve.BYTES
        wait_for(self._folder, needed, "the event log", emit=self._if_it_fits, stop=self.stop, at_least_once=True)
        self._reserve.hold()
        self._write(event)

    def _if_it_fits(self, event: Event) -> None:
        try:
            self._writer.emit(event)
        except OSError as error:
            if not is_full(error):
                raise
        if self._also:
            self._also(event)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a disk that has become read-only keeps it; the next start takes it over
            self._reserve.release()
        self._writer.close()


# -------------------------------------------------------------------------------------------------- reading


class EventReader:
    """Reads a run's log as it grows. Keeps its place (`offset`, in bytes), so each call returns only what is new."""

    def __init__(self, run: RunFolder, offset: int = 0) -> None:
        self._path = run.events
        self.offset = offset

    def read(self, most_bytes: int = _PIECE_BYTES) -> list[Envelope]:
        """The next whole events, at most about `most_bytes` of them; a last line still being written waits for the next call."""
        return [envelope for envelope in map(readable, self.read_lines(most_bytes)) if envelope]

    def read_lines(self, most_bytes: int = _PIECE_BYTES) -> list[bytes]:
        """The same as lines that are not read yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(most_bytes)
                if len(data) == most_bytes and b"\n" not in data:
                    data += file.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) >= _LONGEST_LINE:
            whole = len(data)  # no event: what follows up to its end is passed over as damaged
        self.offset += whole
        return [line for line in data[:whole].split(b"\n") if line]


def read_state(run: RunFolder) -> RunState:
    """The fold of the whole log."""
    reader, state = EventReader(run), RunState()
    while lines := reader.read_lines():
        fold_lines(lines, state)
    return state


def follow(run: RunFolder, every_s: float = 0.2) -> Iterator[list[Envelope]]:
    """Batches of new events until the run ends or its process is gone; an empty batch when nothing is new.

    The last batch may be empty: the caller then asks `status_of`.

    Args:
        every_s: seconds between looks at a log that does not grow.
    """
    reader = EventReader(run)
    while True:
        alive = is_alive(run)  # before reading: what a process wrote before it ended is then always read
        batch = reader.read()
        yield batch
        if not batch and not alive:
            return
        if not batch:
            time.sleep(every_s)
