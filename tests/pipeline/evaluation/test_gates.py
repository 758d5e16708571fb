"""Verdicts at their thresholds, and no verdict without evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.answers_gate import CURATED
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.gates import judge, passed, ships, summary
from pipeline.evaluation.held_out_gate import HELD_OUT
from pipeline.evaluation.jitter_gate import JITTER, LEAST_WINDOWS, WINDOW_SECONDS, spread_over_median, windows
from pipeline.runs.events import GateJudged
from tests.pipeline.evaluation.made_up import figures

THRESHOLDS = AcceptanceSection(jitter_threshold=0.2, curated_threshold=0.7)
GATED = AcceptanceSection(jitter="gate")


def held_out(gain: float, rows: int = 200, noise: float = 0.02, **options: Any) -> Evidence:
    generator = np.random.default_rng(1)
    tokens = np.full(rows, 100)
    base = generator.uniform(150, 250, rows)
    change = generator.standard_normal(rows)
    tuned = base * (1 - gain - noise * (change - np.average(change, weights=base)))
    return Evidence(None, [], [], judged=figures(base, tuned, tokens, **options))


def answers(good: int, bad: int, *, won: int = 0, lost: int = 0) -> list[dict[str, Any]]:
    fine, empty = list[str](), ["it is empty"]
    kinds = ((good, fine, fine), (bad, empty, empty), (won, empty, fine), (lost, fine, empty))
    return [{"prompt": "p", "base_reasons": base, "tuned_reasons": tuned} for count, base, tuned in kinds for _ in range(count)]


def judged(gate: str, evidence: Evidence, thresholds: AcceptanceSection = THRESHOLDS) -> GateJudged:
    return next(each for each in judge(evidence, thresholds) if each.gate == gate)


# ------------------------------------------------------------------------------------------------ held-out loss


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.05, "passed"), (0.0105, "not judged"), (0.005, "failed"), (0.0, "failed"), (-0.2, "failed")]
)
def test_the_held_out_gate_passes_only_where_chance_is_ruled_out(gain: float, verdict: str) -> None:
    gate = judged(HELD_OUT, held_out(gain))
    assert gate.verdict == verdict
    assert gate.value == pytest.approx(100 * gain, abs=0.3)


def test_a_gain_that_may_be_chance_names_the_rows_that_would_tell() -> None:
    few = judged(HELD_OUT, held_out(0.03, rows=40, noise=0.12))
    assert few.verdict == "not judged" and "held-out rows would tell" in few.next_action
    assert judged(HELD_OUT, held_out(0.03, rows=2000, noise=0.12)).verdict == "passed"


def test_too_few_rows_or_tokens_are_not_judged_however_large_the_gain() -> None:
    few = judged(HELD_OUT, held_out(0.5, rows=29))
    assert few.verdict == "not judged" and "30 rows" in few.explanation and "held-out rows would do" in few.next_action
    short = figures(np.full(40, 10.0), np.full(40, 5.0), np.full(40, 5))
    assert judged(HELD_OUT, Evidence(None, [], [], judged=short)).verdict == "not judged"
    enough = AcceptanceSection(least_tokens=100)
    assert judged(HELD_OUT, Evidence(None, [], [], judged=short), enough).verdict == "passed"


def test_an_adapter_of_zeros_is_no_difference_and_not_passed() -> None:
    gate = judged(HELD_OUT, held_out(0.0, noise=0.0), AcceptanceSection(min_val_improvement_pct=-5))
    assert gate.verdict == "failed" and gate.explanation.startswith("no difference")


def test_learning_only_the_end_of_a_turn_is_no_gain() -> None:
    gate = judged(HELD_OUT, held_out(0.0, template=0.001))
    assert gate.verdict == "failed" and "tokens of the template: 0.5000 before, 0.0010 after" in gate.explanation


def test_validation_rows_stand_in_for_test_rows_and_that_is_said() -> None:
    gate = judged(HELD_OUT, held_out(0.1, split="val"))
    assert gate.verdict == "passed" and "which also chose the checkpoint" in gate.explanation


def control(base: float, tuned: float, *, spread: float = 0.05) -> dict[str, Any]:
    change = tuned - base
    return {
        "pairs": 60, "tokens": 6000, "level": 0.05, "base_use": base, "base_use_low": base - spread, "tuned_use": tuned,
        "tuned_use_low": tuned - spread, "use_change": change, "use_change_low": change - spread,
        "use_change_high": change + spread,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "tuned", "verdict"),
    [(0.8, 0.9, "passed"), (0.8, 0.7, "passed"), (0.8, 0.2, "failed"), (0.8, 0.01, "not judged"), (0.0, 0.0, "not judged")],
    ids=["more of the question", "style besides", "wrong answers trained", "none left", "wrong answers held out too"],
)
def test_a_gain_on_answers_that_do_not_belong_to_their_questions_does_not_pass(base: float, tuned: float, verdict: str) -> None:
    evidence = held_out(0.2)
    assert evidence.judged is not None
    evidence.judged["control"] = control(base, tuned)
    assert judged(HELD_OUT, evidence).verdict == verdict
    assert judged(HELD_OUT, evidence, AcceptanceSection(moved_answers=False)).verdict == "passed"


def test_a_loss_that_is_no_number_fails_the_held_out_gate() -> None:
    evidence = held_out(0.1)
    assert evidence.judged is not None
    evidence.judged.update(paired=None, tuned_loss=None)
    gate = judged(HELD_OUT, evidence)
    assert (gate.verdict, gate.value) == ("failed", None)


def test_no_held_out_rows_are_not_judged() -> None:
    assert judged(HELD_OUT, Evidence(None, [], [])).verdict == "not judged"


def test_what_an_older_version_measured_is_not_judged_and_says_what_to_do() -> None:
    gate = judged(HELD_OUT, Evidence({"base_loss": 2.0, "tuned_loss": 1.0, "rows": 100, "tokens": 9000}, [], []))
    assert gate.verdict == "not judged" and "humigence eval" in gate.next_action


# ---------------------------------------------------------------------------------------------------- throughput


def test_throughput_is_not_judged_below_ten_windows_of_seconds() -> None:
    steady = [WINDOW_SECONDS / 4] * 4 * LEAST_WINDOWS
    assert judged(JITTER, Evidence(None, [], steady[1:])).verdict == "not judged"
    assert judged(JITTER, Evidence(None, [], steady)).verdict == "passed"


@pytest.mark.parametrize(("step", "count"), [(0.1, 19), (0.1, 195), (5.5, 9), (3.0, 1)])
def test_what_is_too_short_to_judge_says_how_much_is_missing_in_what_is_counted(step: float, count: int) -> None:
    gate = judged(JITTER, Evidence(None, [], [step] * count), THRESHOLDS)
    assert gate.verdict == "not judged"
    has, needed = (int(part.split()[0]) for part in gate.explanation.split(", "))
    assert has == len(windows([step] * count, ())[0]) < needed == LEAST_WINDOWS


def test_steps_of_milliseconds_that_jitter_are_steady_by_the_second() -> None:
    generator = np.random.default_rng(3)
    short = list(generator.lognormal(np.log(0.017), 0.5, 4000))
    assert spread_over_median(short) > 0.4
    assert judged(JITTER, Evidence(None, [], short), GATED).verdict == "passed"


def test_an_unsteady_speed_warns_and_fails_only_where_that_is_asked_for() -> None:
    unsteady = Evidence(None, [], [2.0, 2.0, 2.0, 2.0, 6.0] * 6)
    assert judged(JITTER, unsteady).verdict == "warning"
    assert passed(judge(unsteady, THRESHOLDS))
    assert not passed(judge(unsteady, GATED))


def test_the_jitter_gate_turns_at_its_threshold() -> None:
    steps = [2.0 + i / 50 for i in range(21)]
    spread = spread_over_median(steps)
    for threshold, verdict in ((spread * 1.001, "passed"), (spread * 0.999, "warning")):
        gate = judged(JITTER, Evidence(None, [], steps), AcceptanceSection(jitter_threshold=threshold))
        assert (gate.verdict, gate.value) == (verdict, pytest.approx(100 * spread))


def test_one_stalled_step_in_thirty_is_no_jitter() -> None:
    assert judged(JITTER, Evidence(None, [], [2.0] * 29 + [50.0])).verdict == "passed"


def test_longer_steps_taking_longer_is_no_jitter_but_unsteady_ones_are() -> None:
    tokens = [40.0, 110.0, 75.0, 60.0, 95.0] * 6
    by_right = [2 + 0.03 * count for count in tokens]  # a fixed cost, and one for each token
    assert judged(JITTER, Evidence(None, [], by_right, tokens)).value == pytest.approx(0.0, abs=1e-6)
    unsteady = [seconds * (1.0 if i % 3 else 2.0) for i, seconds in enumerate(by_right)]
    assert judged(JITTER, Evidence(None, [], unsteady, tokens)).verdict == "warning"


# ------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(("good", "bad", "verdict"), [(7, 3, "passed"), (6, 4, "failed"), (10, 0, "passed"), (0, 10, "failed")])
def test_the_curated_gate_turns_at_its_threshold(good: int, bad: int, verdict: str) -> None:
    gate = judged(CURATED, Evidence(None, answers(good, bad), []))
    assert (gate.verdict, gate.value) == (verdict, pytest.approx(10 * good))


@pytest.mark.parametrize(
    ("won", "lost", "verdict"),
    [(0, 1, "not judged"), (3, 4, "not judged"), (4, 4, "passed"), (0, 6, "failed"), (1, 10, "failed")],
)
def test_losing_answers_is_never_a_silent_pass(won: int, lost: int, verdict: str) -> None:
    gate = judged(CURATED, Evidence(None, answers(60, 0, won=won, lost=lost), []))
    assert gate.verdict == verdict
    assert f"{won} better, {lost} worse" in gate.explanation


def test_no_prompts_are_not_judged_even_where_nothing_is_asked() -> None:
    assert judged(CURATED, Evidence(None, [], []), AcceptanceSection(curated_threshold=0.0)).verdict == "not judged"


# ---------------------------------------------------------------------------------------------------------- whole


def test_a_gate_that_did_not_pass_says_what_to_do() -> None:
    bad = Evidence(None, answers(1, 9), [2.0, 9.0] * 10, judged=held_out(-0.1).judged)
    for evidence in (Evidence(None, [], []), bad):
        assert all(gate.next_action and gate.explanation for gate in judge(evidence, THRESHOLDS))


def test_one_failed_gate_fails_the_run_and_gates_without_evidence_do_not() -> None:
    nothing = Evidence(None, [], [])
    assert passed(judge(nothing, THRESHOLDS))
    assert not passed(judge(Evidence(None, answers(1, 9), []), THRESHOLDS))


def test_only_a_held_out_loss_that_passed_ships() -> None:
    better = judge(held_out(0.1), THRESHOLDS)
    assert ships(better) and summary(better) == "1 passed, 2 not judged"
    assert not ships(judge(Evidence(None, answers(10, 0), []), THRESHOLDS))
    lost = Evidence(None, answers(0, 10), [], judged=held_out(0.1).judged)
    assert not ships(judge(lost, THRESHOLDS))
