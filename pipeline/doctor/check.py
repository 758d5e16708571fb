"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found.

    Attributes:
        status: a problem keeps training from working; a warning makes it slow or risky.
        advice: what it means and what to do; empty where all is well.
        command: what mends it, to be typed; empty where no command can.
    """

    name: str
    status: Status
    value: str
    advice: str = ""
    command: str = ""
