"""A write that waits until somebody has made room on its disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.common.errors import Stopped
from pipeline.common.text import size
from pipeline.runs.events import Continued, Event, Paused
from pipeline.system import disk

_LOOK_EVERY_S = 0.5


def wait_for(
    folder: Path,
    needed: int,
    what: str,
    *,
    emit: Callable[[Event], None],
    stop: Callable[[], object],
    at_least_once: bool = False,
) -> None:
    """Return once the disk of `folder` has `needed` bytes free; what waits, and that it goes on, is emitted as events.

    Args:
        what: what cannot be written ("the checkpoint of step 40").
        at_least_once: a write has failed just now, whatever the free space says.

    Raises:
        Stopped: the person asked to.
    """
    if not at_least_once and disk.free_disk_bytes(folder) >= needed:
        return
    began = time.monotonic()
    emit(Paused(f"the disk is full: {what} needs {size(needed)} at {folder}"))
    while at_least_once or disk.free_disk_bytes(folder) < needed:
        at_least_once = False
        if stop():
            raise Stopped(f"stopped while the disk was full: {what} is not written", "make room, then resume the run")
        time.sleep(_LOOK_EVERY_S)
    emit(Continued(time.monotonic() - began))
