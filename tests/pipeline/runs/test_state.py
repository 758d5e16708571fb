"""The fold: the same events give the same state, however they arrive; a resumed run shows each step once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, Event, to_line
from pipeline.runs.fold import fold_lines
from pipeline.runs.forecast import expect
from pipeline.runs.state import RunState
from tests.folding import fold
from tests.pipeline.runs.event_strategies import logs
from tests.pipeline.runs.logs import STARTED, log, train_step


@given(logs(), st.lists(st.integers(1, 7), min_size=1))
def test_batches_make_no_difference(envelopes: list[Envelope], sizes: list[int]) -> None:
    state, rest, turn = RunState(), list(envelopes), 0
    while rest:
        size = sizes[turn % len(sizes)]
        fold(rest[:size], state)
        rest, turn = rest[size:], turn + 1
    assert state == fold(envelopes)


@given(logs(), st.data())
def test_an_event_that_arrives_again_changes_nothing(envelopes: list[Envelope], data: st.DataObject) -> None:
    state = fold(envelopes)
    again = data.draw(st.lists(st.sampled_from(envelopes), max_size=10)) if envelopes else []
    assert fold(again, state) == fold(envelopes)


@given(logs(finite=False))
def test_no_log_breaks_the_fold_or_what_views_ask_of_it(envelopes: list[Envelope]) -> None:
    state = fold(envelopes)
    _ = (state.step, state.train_loss, state.val_loss, state.best, state.current, state.tokens_per_second())
    assert state.last_seq == len(envelopes)


def test_a_run_resumed_from_its_checkpoint_shows_each_step_once() -> None:
    first = [STARTED, *(train_step(step, loss=3 - step / 1000) for step in range(1, 413)), ev.Evaluated(400, 1.5, 10, 0.1, True)]
    first.insert(401, ev.CheckpointSaved(400, "checkpoints/step-000400", True, 0.1))
    killed_later = [*first, ev.Evaluated(410, 1.0, 10, 0.1, True), ev.Sampled(410, "?", "!"), ev.EarlyStopped(411, 400, 1.5, 3)]
    second = [STARTED, ev.Resumed(400), *(train_step(step, loss=3 - step / 1000) for step in range(401, 501))]
    state = fold(log(*killed_later) + log(*second, first=len(killed_later) + 1, attempt=2))
    assert list(state.train["step"]) == list(range(1, 501))
    assert list(state.train["loss"]) == pytest.approx([3 - step / 1000 for step in range(1, 501)])
    assert list(state.held_out["step"]) == [400]
    assert state.samples == []
    assert state.early_stopped is None
    assert (state.saved_step, state.attempt) == (400, 2)


def test_resuming_from_an_older_checkpoint_forgets_the_later_ones() -> None:
    saved = [ev.CheckpointSaved(step, f"checkpoints/step-{step:06}", False, 0.1) for step in (100, 200, 300)]
    state = fold(log(STARTED, *saved) + log(STARTED, ev.Resumed(100), first=5, attempt=2))
    assert [checkpoint.step for checkpoint in state.checkpoints] == [100]
    assert state.saved_step == 100


def test_a_new_attempt_of_a_failed_run_is_running_again() -> None:
    failed = log(STARTED, ev.StepStarted("train"), ev.StepFinished("train", "failed", 1.0), ev.RunFailed("no", "", 4))
    assert fold(failed).status == "failed"
    state = fold(failed + log(STARTED, first=5, attempt=2))
    assert (state.status, state.error, state.exit_code, state.ended) == ("running", None, None, None)


def test_a_step_the_attempt_before_died_in_is_not_shown_as_running() -> None:
    state = fold(log(STARTED, ev.StepStarted("train")) + log(STARTED, first=3, attempt=2))
    assert state.current is None
    assert fold(log(STARTED, ev.StepStarted("train"))).current == "train"


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [(ev.RunFinished(), "finished", 0), (ev.RunFinished(3), "finished", 3), (ev.RunFailed("m", "h", 5), "failed", 5),
     (ev.RunStopped("save", 7), "stopped", 130)],
)  # fmt: skip
def test_every_end_has_its_status_and_exit_code(event: Event, status: str, code: int) -> None:
    state = fold(log(STARTED, event))
    assert (state.status, state.exit_code) == (status, code)


def test_doing_a_step_again_replaces_what_it_found() -> None:
    gate = ev.GateJudged("curated answers", "failed", 10.0, 70.0, "%", "one of ten")
    again = ev.GateJudged("curated answers", "passed", 80.0, 70.0, "%", "eight of ten")
    state = fold(log(STARTED, ev.StepStarted("gates"), gate) + log(STARTED, ev.StepStarted("gates"), again, first=4, attempt=2))
    assert state.gates == [again]


def test_a_suite_measured_again_replaces_what_it_found_and_a_new_evaluation_begins_with_none() -> None:
    first = ev.SuiteMeasured("facts", 100, 0.8, 0.5, 0, 30, 1e-9, "fell")
    again = ev.SuiteMeasured("facts", 100, 0.8, 0.8, 0, 0, 1.0, "held")
    other = ev.SuiteMeasured("reading", 100, 0.7, 0.7, 1, 1, 1.0, "held")
    assert fold(log(STARTED, first, other, again)).suites == [other, again]
    assert fold(log(STARTED, first, ev.StepStarted("evaluate"), other)).suites == [other]


def test_a_gate_judged_again_by_validate_replaces_what_was_found_before() -> None:
    other = ev.GateJudged("held-out loss", "passed", 10.0, 1.0, "%", "fell")
    first, second = (ev.GateJudged("curated answers", verdict, 0.5, 0.7, "", "") for verdict in ("failed", "passed"))
    assert fold(log(STARTED, first, other, second)).gates == [other, second]


def test_the_best_evaluation_is_the_lowest_finite_one_and_the_earlier_of_equals() -> None:
    found = [
        ev.Evaluated(step, loss, 1, 0.1, False) for step, loss in [(1, math.nan), (2, 1.5), (3, 1.2), (4, 1.2), (5, math.inf)]
    ]
    assert fold(log(STARTED, *found)).best == (3, 1.2)
    assert fold(log(STARTED, found[0])).best is None


def test_throughput_leaves_out_steps_that_warm_up() -> None:
    steps = [train_step(1, seconds=100.0, counted=False), train_step(2, seconds=1.0), train_step(3, seconds=3.0)]
    assert fold(log(STARTED, *steps)).tokens_per_second() == 50.0


def test_the_time_left_after_a_resume_follows_this_attempts_pace() -> None:
    slow = [train_step(step, seconds=10.0, total=300) for step in range(1, 201)]
    fast = [train_step(step, seconds=1.0, total=300) for step in range(201, 251)]
    state = fold(log(STARTED, *slow) + log(STARTED, ev.Resumed(200), *fast, first=202, attempt=2))
    expected = expect(state)
    assert expected is not None and state.last_event is not None
    assert expected.left_s(state.last_event) == pytest.approx(50.0)


def test_a_phase_of_training_lasts_until_the_next_step_whichever_way_the_log_is_folded() -> None:
    saving = ev.StepProgress("train", 0, 0, "", "saving")
    evaluating = [ev.StepProgress("train", done, 8, "rows", "evaluating") for done in (0, 4)]
    begun = log(STARTED, ev.StepStarted("train"), train_step(1), *evaluating)
    in_it = fold(begun)
    assert in_it.steps["train"].progress == evaluating[-1]
    assert in_it.steps["train"].progress_since == begun[-2].time  # of the phase, not of its newest figure
    gone_on = log(STARTED, ev.StepStarted("train"), train_step(1), *evaluating, saving, train_step(2))
    together = RunState()
    fold_lines([to_line(each).encode() for each in gone_on], together)
    assert together == fold(gone_on)
    assert together.steps["train"].progress is None and together.steps["train"].progress_since is None
