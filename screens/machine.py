"""What screens show of the machine, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """GPUs, CPU and memory at one moment, with their last minutes."""
