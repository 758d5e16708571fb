"""What screens show of runs, as frozen values: made in the worker thread, read by widgets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunRow:
    """One run in the list of runs."""


@dataclass(frozen=True)
class Snapshot:
    """A followed run at one moment."""
