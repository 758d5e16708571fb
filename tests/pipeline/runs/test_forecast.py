"""The clock of a run, on logs of made-up runs: what is left, by the wall, at any moment of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, Event
from pipeline.runs.fold_cache import summarize
from pipeline.runs.forecast import Expectation, expect
from pipeline.runs.state import RunState
from tests.pipeline.runs.logs import STARTED, train_step

PLAN = ev.PlanMade(True, 1, 1, 0, 100, 1000, 0, 0, 0.0)
# Share of what remained, or of a step, by which a forecast may be off once an evaluation was measured.
TOLERATED = 0.25


@dataclass
class MadeUp:
    """A run whose steps, evaluations and last evaluation take what they take, every few seconds of it."""

    steps: int
    every: int
    step_s: float
    evaluation_s: float
    load_s: float

    def __post_init__(self) -> None:
        self.time, self.log = 1e9, list[Envelope]()
        self._emit(STARTED)
        self._emit(replace(PLAN, total_steps=self.steps, eval_every_steps=self.every))
        self._emit(ev.StepStarted("train"))
        self.time += self.load_s
        for step in range(1, self.steps + 1):
            self._emit(ev.StepProgress("train", 0, 4, "micro-batches", f"step {step}"))
            self.time += self.step_s
            self._emit(train_step(step, total=self.steps, seconds=self.step_s))
            if step % self.every == 0 or step == self.steps:
                self._evaluate(step)
        self._emit(ev.StepFinished("train", "done", self.time - 1e9))
        self.time += self.load_s + 4 * self.evaluation_s
        self.ends = self.time

    def _evaluate(self, step: int) -> None:
        for part in range(4):
            self._emit(ev.StepProgress("train", part, 4, "rows", "evaluating"))
            self.time += self.evaluation_s / 4
        self._emit(ev.Evaluated(step, 1.0, 10, self.evaluation_s, False))

    def _emit(self, event: Event) -> None:
        self.log.append(Envelope(len(self.log) + 1, self.time, 1, event))


RUNS = st.builds(
    MadeUp,
    steps=st.integers(2, 60),
    every=st.integers(1, 20),
    step_s=st.floats(0.1, 100),
    evaluation_s=st.floats(0.1, 1000),
    load_s=st.floats(0, 100),
)


@given(RUNS, st.floats(0, 1))
def test_at_any_moment_what_is_forecast_is_close_to_what_remains(run: MadeUp, share: float) -> None:
    """Before the first evaluation was measured it is a lower bound, and says so."""
    state = RunState()
    for envelope, after in zip(run.log, [*run.log[1:], None], strict=True):
        state.apply(envelope)
        expected = expect(state)
        now = envelope.time + share * ((after.time if after else run.ends) - envelope.time)
        if expected is None:
            continue
        left, remains = expected.left_s(now), run.ends - now
        if expected.at_least:
            assert left <= remains + 1e-3
        else:
            assert abs(left - remains) <= TOLERATED * remains + 1e-3 or len(state.held_out) == 0
    assert expect(state) is not None


@given(RUNS)
def test_it_ticks_and_what_takes_longer_puts_the_end_off(run: MadeUp) -> None:
    state = RunState()
    for envelope in run.log:
        state.apply(envelope)
        if (expected := expect(state)) is not None:
            at = envelope.time
            moments = [expected.left_s(at + 0.1 * run.step_s * tick) for tick in range(40)]
            assert moments == sorted(moments, reverse=True) and moments[-1] >= 0


def test_evaluations_and_what_follows_training_are_in_it() -> None:
    """Two steps of a second done, and an evaluation of a minute after each sixth: no 22 seconds are left."""
    run, state = MadeUp(24, 6, 1.0, 60.0, 5.0), RunState()
    for envelope in run.log:
        state.apply(envelope)
        expected = expect(state)
        if state.step == 2 and expected:
            assert expected.at_least and "at least" in expected.left_text(envelope.time) and not expected.done_text(envelope.time)
        if state.step == 7 and expected:
            assert expected.left_s(envelope.time) == pytest.approx(17 + 3 * 60 + 5 + 4 * 60, rel=0.01)
            assert expected.done_text(envelope.time).startswith("done about ")
            break


def test_a_step_that_takes_three_times_the_usual_is_told_of_and_an_evaluation_is_no_step() -> None:
    state = RunState()
    for envelope in MadeUp(10, 20, 10.0, 60.0, 5.0).log[:9]:
        state.apply(envelope)
    assert state.step == 3 and state.last_event is not None
    expected = summarize(state).expected
    assert expected is not None
    assert expected.late_text(state.last_event + 29) == ""
    assert expected.late_text(state.last_event + 130) == "last step 2 m 10 s ago"
    state.apply(Envelope(state.last_seq + 1, state.last_event, 1, ev.StepProgress("train", 1, 4, "rows", "evaluating")))
    expected = expect(state)
    assert expected is not None and expected.late_text(state.last_event + 1000) == ""


def test_another_day_is_named() -> None:
    now = 1763800000.0
    assert [Expectation(now, days * 86_400.0).done_text(now)[:7] for days in (0, 2)] == ["done ab", "done Mo"]
    assert Expectation(now, 30 * 86_400.0).done_text(now).startswith("done on ")
    assert Expectation(now, 60.0, at_least=True).left_text(now) == "at least 1 m 0 s left"
