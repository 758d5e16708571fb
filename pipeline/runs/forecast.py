"""When a run will be done: by the wall, with evaluations, samples, checkpoints and the steps after training in it.

What a log lets one expect is of the log alone and goes into summaries; what a person reads depends on when they look: it ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pipeline.common.text import duration
from pipeline.runs.events import StepName
from pipeline.runs.state import RunState

# Steps whose mean is the usual one: short enough to follow a machine that has become slower.
_RECENT = 20
# The last evaluation scores two splits, each without and with the adapter.
_PASSES_AFTERWARDS = 4
# A step that takes this many times the usual, and at least so many seconds, is told of.
_LATE, _LATE_S = 3.0, 5.0
_AFTER_TRAINING: tuple[StepName, ...] = ("evaluate", "pack", "gates")
_WEEK_S = 6 * 86_400.0  # by then the name of a day says which
_IN_A_STEP = "micro-batches"  # the unit of a phase that is no pause of the steps


@dataclass(frozen=True)
class Expectation:
    """What is expected of a run that is on. Times in seconds since 1970.

    Attributes:
        next_by: when what is being done now should be over.
        rest_s: seconds of what comes after that.
        at_least: an evaluation is to come, and none was measured yet.
        last_step: when the newest optimizer step was done; None where none is being made.
        late_from: when the step that is being made has taken three times the usual.
    """

    next_by: float
    rest_s: float
    at_least: bool = False
    last_step: float | None = None
    late_from: float | None = None

    def left_s(self, now: float) -> float:
        """Seconds from `now` to the end; what takes longer than expected puts the end off."""
        return max(self.next_by - now, 0.0) + self.rest_s

    def left_text(self, now: float) -> str:
        """`18 m left`, `at least 1 m 47 s left`."""
        return f"{'at least ' * self.at_least}{duration(self.left_s(now))} left"

    def done_text(self, now: float) -> str:
        """`done about 17:42`, another day `done Sun 02:02`, in a week or later `done on 30 Nov`; empty where it is not known."""
        if self.at_least:
            return ""
        begins, ends = datetime.fromtimestamp(now), datetime.fromtimestamp(now + self.left_s(now))
        if ends.date() == begins.date():
            return f"done about {ends:%H:%M}"
        return f"done {ends:%a %H:%M}" if self.left_s(now) < _WEEK_S else f"done on {ends:%d %b}"

    def late_text(self, now: float) -> str:
        """`last step 2 m 10 s ago`, where that is three times the usual; else empty."""
        if self.last_step is None or self.late_from is None or now < self.late_from:
            return ""
        return f"last step {duration(now - self.last_step)} ago"


def expect(state: RunState) -> Expectation | None:
    """None before the first step of this attempt, after training without any, and of a run that does not train or has ended."""
    done = len(state.train) - state.attempt_points
    if state.status != "running" or not state.training or done < 1:
        return None
    pause, measured = _pause(state)
    train = state.steps["train"]
    if state.train_ended or train.outcome:
        finished = train.started + train.seconds if train.started is not None else state.train["time"][-1]
        return Expectation(finished + _afterwards(state, pause), 0.0)
    last, usual = state.train["time"][-1], _usual(state, done)
    steps_left, evaluations = max(0, state.total_steps - state.step), _evaluations_to_come(state)
    rest = steps_left * usual + evaluations * pause + _afterwards(state, pause)
    if _is_in_a_pause(state):
        so_far = max(0.0, (state.last_event or last) - last)
        return Expectation(last + max(pause, so_far), rest, at_least=not measured)
    begun = max(last, train.progress_since or last)  # after a pause, or where a step says how far it is
    late = begun + max(_LATE * usual, _LATE_S) if steps_left else None
    return Expectation(begun + usual, max(0.0, rest - usual), evaluations > 0 and not measured, last, late)


def _is_in_a_pause(state: RunState) -> bool:
    """Whether what follows the newest step is no step: an evaluation is due after it, or something else is told of."""
    phase, plan, step = state.steps["train"].progress, state.plan, state.step
    if phase is not None:
        return phase.unit != _IN_A_STEP
    return step >= state.total_steps or (plan is not None and plan.eval_every_steps > 0 and step % plan.eval_every_steps == 0)


def _usual(state: RunState, done: int) -> float:
    recent: Sequence[float] = state.train["seconds"][-min(_RECENT, done) :]
    return sum(recent) / len(recent)


def _evaluations_to_come(state: RunState) -> int:
    """After steps that are still to be made: at each multiple of the plan's interval, and after the last."""
    plan, total, step = state.plan, state.total_steps, state.step
    if plan is None or step >= total or plan.eval_every_steps < 1:
        return 0
    every = plan.eval_every_steps
    return total // every - step // every + (1 if total % every else 0)


def _pause(state: RunState) -> tuple[float, bool]:
    """Seconds of an evaluation with its samples and its checkpoint, and whether one was measured in this attempt.

    Measured by the wall: what lies between two steps beyond the seconds of the second.
    """
    first = state.attempt_points
    times, seconds = state.train["time"][first:], state.train["seconds"][first:]
    # One that is followed by no step is not over.
    evaluations = sum(1 for step in state.held_out["step"][state.attempt_evaluations :] if step < state.step)
    if not evaluations:
        train = state.steps["train"]
        if not train.outcome or train.started is None or len(state.held_out) == state.attempt_evaluations:
            return 0.0, False
        return max(0.0, train.started + train.seconds - times[-1]), True
    gaps = (after - before - took for (before, after), took in zip(pairwise(times), seconds[1:], strict=True))
    return sum(max(0.0, gap) for gap in gaps) / evaluations, True


def _afterwards(state: RunState, pause: float) -> float:
    """Seconds of the steps after training: what they took before, else what loading and evaluating took in training."""
    known = sum(state.steps[name].seconds for name in _AFTER_TRAINING)
    if known:
        return known
    started, first = state.steps["train"].started, state.attempt_points
    loading = state.train["time"][first] - state.train["seconds"][first] - started if started is not None else 0.0
    return max(0.0, loading) + _PASSES_AFTERWARDS * pause
