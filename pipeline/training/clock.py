"""Moments of a training: as the wall shows them, or as a GPU reaches them while Python is already further."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments and measures the seconds between two of them."""

    def mark(self) -> Any: ...

    def between(self, start: Any, end: Any) -> float:
        """Seconds; waits until the device has reached `end`."""


class WallClock:
    """For a CPU: what was asked for is done when the call returns."""

    def mark(self) -> float:
        return time.perf_counter()

    def between(self, start: float, end: float) -> float:
        return end - start


class GpuClock:
    """Marks are events in the GPU's own order of work, so that making one does not wait for it."""

    def mark(self) -> torch.cuda.Event:
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000  # it gives milliseconds
