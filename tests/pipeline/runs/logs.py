"""Events and lines of a log, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, Event

STARTED = ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True)


def log(*events: Event, first: int = 1, attempt: int = 1) -> list[Envelope]:
    return [Envelope(first + number, 1e9 + first + number, attempt, event) for number, event in enumerate(events)]


def train_step(step: int, loss: float = 2.0, total: int = 1000, **changes: Any) -> ev.TrainStep:
    given_: dict[str, Any] = {"epoch": 0.1, "lr": 1e-4, "grad_norm": 1.0, "tokens": 100, "trained_tokens": 50, "seconds": 0.5}
    return ev.TrainStep(step, total, loss=loss, **(given_ | changes))
