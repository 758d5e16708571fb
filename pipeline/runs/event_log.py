"""A worker's way into its run's log: a full disk pauses the run instead of ending it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.common.errors import EnvironmentFault
from pipeline.runs.events import Event
from pipeline.runs.folders import RunFolder
from pipeline.runs.store import EventWriter
from pipeline.system.disk import Reserve, is_full, wait_for

# More than one line: with less it would stop again at the next.
_CHILDREN_DIE_S = 5.0  # forked loaders of a killed worker hold the log open a moment longer than it
_ENOUGH_BYTES = 1 << 20


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
        """Write one event as soon as there is room, then tell it to `also`.

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
        if self.stop():  # how it ends fits into what was kept for it
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
