"""How far a step is: the first news at once, then no more than a few a second, and a stop that is noticed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.common.errors import Stopped
from pipeline.config.schema import Config
from pipeline.runs import progress
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, StepProgress
from pipeline.runs.folders import Workspace
from pipeline.runs.progress import Phases, Progress, Throttle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that is read, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def context(events: list[Event], *, stop: bool = False) -> StepContext:
    return StepContext(Config(), Workspace(Path("/work")), emit=events.append, stop=lambda: "save" if stop else None)


def amounts(events: list[Event]) -> list[int]:
    return [event.done for event in events if isinstance(event, StepProgress)]


def test_much_that_comes_at_once_is_one_event(clock: list[float]) -> None:
    events: list[Event] = []
    made = Progress(context(events), "model", 100, "bytes", "a/b")
    for _ in range(5):
        made.advance(10)
    clock[0] += progress.EVERY_S
    made.advance(10)
    assert events == [StepProgress("model", 10, 100, "bytes", "a/b"), StepProgress("model", 60, 100, "bytes", "a/b")]


def test_the_end_is_told_whenever_it_comes(clock: list[float]) -> None:
    events: list[Event] = []
    made = Progress(context(events), "preprocess", 3, "rows")
    for done in (1, 2, 3):
        made.reach(done, "tokenizing")
    assert amounts(events) == [1, 3]


def test_what_is_done_over_and_what_comes_too_many_never_leaves_the_bar(clock: list[float]) -> None:
    events: list[Event] = []
    made = Progress(context(events), "model", 10, "bytes")
    made.advance(-5)
    clock[0] += progress.EVERY_S
    made.advance(50)
    assert amounts(events) == [0, 10]


def test_a_stop_is_raised_where_an_event_is_due_and_not_between(clock: list[float]) -> None:
    made = Progress(context([], stop=True), "pack", 10, "bytes", stopped=Stopped("stopped", "go on"))
    with pytest.raises(Stopped):
        made.advance(1)
    made.advance(1)
    clock[0] += progress.EVERY_S
    with pytest.raises(Stopped):
        made.advance(1)


def test_a_throttle_lets_the_first_through(clock: list[float]) -> None:
    throttle = Throttle()
    assert throttle.is_due() and not throttle.is_due()
    clock[0] += progress.EVERY_S
    assert throttle.is_due()


def test_a_phase_is_told_as_it_begins_and_no_more_than_a_few_times_a_second(clock: list[float]) -> None:
    events: list[Event] = []
    phases = Phases(events.append, "train")
    for done in range(100):
        phases.say("evaluating", done, 100, "rows")
    phases.say("saving")
    clock[0] += progress.EVERY_S
    phases.say("saving")
    assert [(event.what, event.done) for event in events if isinstance(event, StepProgress)] == [
        ("evaluating", 0),
        ("saving", 0),
        ("saving", 0),
    ]
