"""Verdicts at their thresholds, and no verdict without evidence."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.gates import CURATED, HELD_OUT, JITTER, LEAST_STEPS, Evidence, judge, passed, spread_over_median
from pipeline.runs.events import GateJudged

THRESHOLDS = AcceptanceSection(min_val_improvement_pct=25.0, jitter_threshold=0.2, curated_threshold=0.7)


def val(base: float | None, tuned: float | None) -> dict[str, Any]:
    return {"rows": 3, "tokens": 100, "base_loss": base, "tuned_loss": tuned}


def answers(good: int, bad: int) -> list[dict[str, Any]]:
    return [{"prompt": "p", "tuned_reasons": []}] * good + [{"prompt": "p", "tuned_reasons": ["it is empty"]}] * bad


def judged(gate: str, evidence: Evidence, thresholds: AcceptanceSection = THRESHOLDS) -> GateJudged:
    return next(each for each in judge(evidence, thresholds) if each.gate == gate)


@pytest.mark.parametrize(("tuned", "verdict"), [(1.49, "passed"), (1.5, "passed"), (1.51, "failed"), (2.5, "failed")])
def test_the_held_out_gate_turns_at_its_threshold(tuned: float, verdict: str) -> None:
    gate = judged(HELD_OUT, Evidence(val(2.0, tuned), [], []))
    assert gate.verdict == verdict
    assert gate.value == pytest.approx(100 * (2.0 - tuned) / 2.0)


def test_a_loss_that_is_no_number_fails_the_held_out_gate() -> None:
    gate = judged(HELD_OUT, Evidence(val(2.0, None), [], []))
    assert (gate.verdict, gate.value) == ("failed", None)


def test_no_held_out_rows_are_not_judged() -> None:
    assert judged(HELD_OUT, Evidence(None, [], [])).verdict == "not judged"


def test_throughput_is_not_judged_below_twenty_counted_steps() -> None:
    steady = [0.01] * LEAST_STEPS
    assert judged(JITTER, Evidence(None, [], steady[1:])).verdict == "not judged"
    assert judged(JITTER, Evidence(None, [], steady)).verdict == "passed"


def test_the_jitter_gate_turns_at_its_threshold() -> None:
    steps = [1.0 + i / 100 for i in range(21)]
    spread = spread_over_median(steps)
    for threshold, verdict in ((spread * 1.001, "passed"), (spread * 0.999, "failed")):
        gate = judged(JITTER, Evidence(None, [], steps), AcceptanceSection(jitter_threshold=threshold))
        assert (gate.verdict, gate.value) == (verdict, pytest.approx(100 * spread))


def test_one_stalled_step_in_thirty_is_no_jitter_but_one_in_five_is() -> None:
    assert judged(JITTER, Evidence(None, [], [1.0] * 29 + [50.0])).verdict == "passed"
    assert judged(JITTER, Evidence(None, [], [1.0, 1.0, 1.0, 1.0, 3.0] * 6)).verdict == "failed"


def test_jitter_does_not_depend_on_the_unit_of_time() -> None:
    steps = [1.0 + (i * 7 % 10) / 20 for i in range(40)]
    assert spread_over_median(steps) == pytest.approx(spread_over_median([1000 * step for step in steps]))


@pytest.mark.parametrize(("good", "bad", "verdict"), [(7, 3, "passed"), (6, 4, "failed"), (10, 0, "passed"), (0, 10, "failed")])
def test_the_curated_gate_turns_at_its_threshold(good: int, bad: int, verdict: str) -> None:
    gate = judged(CURATED, Evidence(None, answers(good, bad), []))
    assert (gate.verdict, gate.value) == (verdict, pytest.approx(10 * good))


def test_no_prompts_are_not_judged_even_where_nothing_is_asked() -> None:
    assert judged(CURATED, Evidence(None, [], []), AcceptanceSection(curated_threshold=0.0)).verdict == "not judged"


def test_a_gate_that_failed_or_was_not_judged_says_what_to_do() -> None:
    for evidence in (Evidence(None, [], []), Evidence(val(2.0, 3.0), answers(1, 9), [1.0, 9.0] * 10)):
        assert all(gate.next_action and gate.explanation for gate in judge(evidence, THRESHOLDS))


def test_one_failed_gate_fails_the_run_and_gates_without_evidence_do_not() -> None:
    nothing = Evidence(None, [], [])
    assert passed(judge(nothing, THRESHOLDS))
    assert not passed(judge(Evidence(None, answers(1, 9), []), THRESHOLDS))


def test_longer_steps_taking_longer_is_no_jitter_but_unsteady_ones_are() -> None:
    tokens = [40.0, 110.0, 75.0, 60.0, 95.0] * 6
    by_right = [0.4 + 0.006 * count for count in tokens]  # a fixed cost, and one for each token
    assert judged(JITTER, Evidence(None, [], by_right, tokens)).value == pytest.approx(0.0, abs=1e-6)
    unsteady = [seconds * (1.0 if i % 3 else 2.0) for i, seconds in enumerate(by_right)]
    assert judged(JITTER, Evidence(None, [], unsteady, tokens)).verdict == "failed"
