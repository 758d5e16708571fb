"""How far a step is, as `StepProgress` events a few times a second, however often it is asked to say so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pipeline.common.errors import Stopped
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, StepName, StepProgress

EVERY_S = 0.5


class Throttle:
    """Lets something through at once, and then at most every `EVERY_S` seconds."""

    def __init__(self) -> None:
        self._last = -math.inf

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return False
        self._last = now
        return True


class Phases:
    """What a step is doing now: `StepProgress` events, which the next optimizer step or the step's end takes back.

    A phase is an event as it begins; how far it is, one a few times a second at most, and its end.

    Args:
        step: whose phases they are.
    """

    def __init__(self, emit: Callable[[Event], None], step: StepName) -> None:
        self._emit, self._step = emit, step
        self._what = ""
        self._throttle = Throttle()

    def say(self, what: str, done: int = 0, total: int = 0, unit: str = "") -> None:
        """`what` is being done, `done` of `total`; 0 where there is nothing to count."""
        began = what != self._what
        self._what = what
        if self._throttle.is_due() or began or (total and done >= total):
            self._emit(StepProgress(self._step, done, total, unit, what))


def no_phase(what: str, done: int = 0, total: int = 0, unit: str = "") -> None:
    """For work that nobody watches, in place of `Phases.say`."""


class Progress:
    """The amount of work that is done, of a step that a person may end in the middle.

    Args:
        unit: of `done` and `total`: "bytes", "rows".
        what: what is being done, or to what.
        stopped: raised where the person asked to stop, at an event that is due; None for a step that looks by itself.
    """

    def __init__(
        self, ctx: StepContext, step: StepName, total: int, unit: str, what: str = "", stopped: Stopped | None = None
    ) -> None:
        self.done, self.total = 0, total
        self._ctx, self._step, self._unit, self._what, self._stopped = ctx, step, unit, what, stopped
        self._throttle = Throttle()

    def advance(self, by: int) -> None:
        """`by` more is done; less than 0 where something has to be done over. Raises `stopped`."""
        self.done += by
        if self._throttle.is_due():
            self._look_and_emit()

    def reach(self, done: int, what: str) -> None:
        """Set how much is done; the end is always an event.

        Args:
            done: in the unit of `total`.
            what: what is done from here on.

        Raises:
            Stopped: the person asked to stop.
        """
        self.done, self._what = done, what
        if self._throttle.is_due() or done >= self.total:
            self._look_and_emit()

    def emit(self) -> None:
        """An event, due or not."""
        self._ctx.emit(StepProgress(self._step, max(0, min(self.done, self.total)), self.total, self._unit, self._what))

    def _look_and_emit(self) -> None:
        if self._stopped and self._ctx.stop():
            raise self._stopped
        self.emit()
