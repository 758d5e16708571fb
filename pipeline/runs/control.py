"""Whether a run lives, and asking it to stop: files and locks in its folder, looked at by its process."""

from __future__ import annotations

import contextlib
import os
import signal

from pipeline.common.files import write_atomic
from pipeline.runs.events import StopMode
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState, Status
from pipeline.system import locks


def is_alive(run: RunFolder) -> bool:
    """Whether a process holds the run's lock."""
    return locks.holder(run.lock) is not None


def status_of(run: RunFolder, state: RunState) -> Status:
    """The fold's status, or `crashed` when the run says it is on and no process holds its lock."""
    if state.status in ("starting", "running") and not is_alive(run):
        return "crashed"
    return state.status


def request_stop(run: RunFolder, mode: StopMode) -> None:
    """Ask the run to stop; it answers with a `StopAcknowledged` event as soon as it looks: between two micro-batches.

    An abort also wakes its process, which may be far from there. Where the request can't be left in the folder, the process gets
    it as signals.

    Args:
        mode: "save" writes a checkpoint first, "abort" does not.

    Raises:
        OSError: the folder takes no request, and there is no other process to signal.
    """
    try:
        write_atomic(run.stop_request, mode + "\n")
    except OSError:
        pid = locks.holder(run.lock)
        if pid in (None, os.getpid()):
            raise
        # The first saves, the second aborts; two of the same kind could become one.
        for number in (signal.SIGTERM, signal.SIGINT)[: 2 if mode == "abort" else 1]:
            os.kill(pid, number)
        return
    if mode == "abort":
        pid = locks.holder(run.lock)
        if pid not in (None, os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)


def stop_requested(run: RunFolder) -> StopMode | None:
    """What was asked for, if anything."""
    try:
        text = run.stop_request.read_text().strip()
    except FileNotFoundError:
        return None
    return "abort" if text == "abort" else "save"


def clear_stop_request(run: RunFolder) -> None:
    """A new attempt starts with no request pending."""
    run.stop_request.unlink(missing_ok=True)
