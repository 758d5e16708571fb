"""What went wrong when the queue's file was to be read or written, for a person."""

from __future__ import annotations

from pathlib import Path

from pipeline.common.errors import HumigenceError
from pipeline.system.faults import as_fault


def told(error: Exception, place: Path) -> HumigenceError:
    """The error of ours that it is, or that a fault of the machine becomes.

    Raises:
        Exception: `error` itself, where it is neither.
    """
    fault = error if isinstance(error, HumigenceError) else as_fault(error, place)
    if fault is None:
        raise error
    return fault
