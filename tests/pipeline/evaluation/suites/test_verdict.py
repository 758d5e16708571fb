"""When a suite fell, held, or says nothing: by counts anybody can follow, and against made-up pairs of models."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.statistics import at_least, not_worse, sign_test
from pipeline.evaluation.suites.verdict import judged


def pair(right: int, lost: int, won: int, count: int = 100) -> tuple[list[int], list[int]]:
    """(base, tuned): `right` of `count` right before; of these `lost` are not after, and `won` of the others are."""
    base = [1] * right + [0] * (count - right)
    return base, [0] * lost + [1] * (right - lost) + [1] * won + [0] * (count - right - won)


@pytest.mark.parametrize(
    ("right", "lost", "won", "chance", "verdict"),
    [
        (60, 30, 2, 0.25, "fell"),
        (60, 8, 0, 0.25, "fell"),
        (60, 7, 0, 0.25, "not enough evidence"),  # p = 0.016: in eight suites that is chance too often
        (60, 0, 0, 0.25, "held"),
        (60, 2, 3, 0.25, "held"),
        (60, 15, 10, 0.25, "not enough evidence"),
        (60, 2, 30, 0.25, "held"),
        (30, 20, 2, 0.25, "not informative"),  # of four options 30 of 100 are right by guessing
        (36, 20, 0, 0.25, "fell"),
        (60, 40, 0, 0.5, "fell"),
        (55, 40, 0, 0.5, "not informative"),
        (4, 4, 0, 0.0, "not informative"),  # above chance, and too few to lose
        (20, 18, 0, 0.0, "fell"),
        (60, 30, 2, None, "fell"),
    ],
)
def test_a_verdict_follows_from_what_was_lost_and_won(
    right: int, lost: int, won: int, chance: float | None, verdict: str
) -> None:
    found = judged("facts", *pair(right, lost, won), chance)
    assert (found.verdict, found.lost, found.won, found.items) == (verdict, lost, won, 100)
    assert found.base == right / 100 and found.tuned == (right - lost + won) / 100
    assert found.p_value == sign_test(won, lost)


def test_figures_that_are_not_right_and_wrong_fall_by_their_signs_and_hold_only_where_none_differs() -> None:
    base = np.linspace(0.1, 0.9, 50)
    assert judged("lm-eval:x", base, base - 0.01, 0.25, "f1").verdict == "fell"
    assert judged("lm-eval:x", base, base, None, "f1").verdict == "held"
    assert judged("lm-eval:x", base, base + 0.01, None, "f1").verdict == "not enough evidence"


def test_how_likely_so_many_are_right_by_chance_is_the_sum_of_its_terms() -> None:
    assert at_least(3, 4, 0.5) == pytest.approx(5 / 16)
    assert at_least(33, 100, 0.25) == pytest.approx(0.0446, abs=5e-5)
    assert at_least(2500, 10_000, 0.25) == pytest.approx(0.504, abs=1e-3)
    assert at_least(0, 9, 0.3) == 1 and at_least(1, 9, 0.0) == 0


def test_tangos_test_without_a_difference_is_its_closed_form() -> None:
    # No pair differs: z = n·m / √(n·m·(1 − m)).
    assert not_worse(0, 0, 100, 0.1) == pytest.approx(4.29e-4, rel=1e-2)
    assert not_worse(10, 10, 100, 0.1) < 0.05 < not_worse(20, 20, 100, 0.1)


@pytest.mark.parametrize("differ", [0.1, 0.2, 0.3])
def test_of_models_of_equal_quality_one_in_a_hundred_falls_and_of_a_real_loss_of_the_margin_one_in_twenty_holds(
    differ: float,
) -> None:
    def verdicts(fall: float) -> list[str]:
        generator, found = np.random.default_rng(5), []
        for _ in range(400):
            drawn, base = generator.random(100), np.arange(100) < 60
            lost = base & (drawn < (differ + fall) / 2 / 0.6)
            won = ~base & (drawn < (differ - fall) / 2 / 0.4)
            found.append(judged("facts", base, base & ~lost | won, 0.25).verdict)
        return found

    assert verdicts(0.0).count("fell") <= 4
    assert verdicts(0.1).count("held") <= 0.075 * 400
    if differ == 0.1:
        assert verdicts(0.0).count("held") >= 0.8 * 400
