"""The level that the verdicts promise, held by made-up data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation.statistics import LEVEL, gain, sign_test
from tests.verdict.simulation import passes


@pytest.mark.parametrize("rows", [30, 100])
def test_models_of_equal_quality_pass_at_most_as_often_as_the_level_says(rows: int) -> None:
    pairs = 200
    three_deviations = 3 * math.sqrt(LEVEL * (1 - LEVEL) / pairs)
    assert passes(rows, 0.0, pairs, seed=rows, resamples=1000) <= LEVEL
    assert passes(rows, 0.01, pairs, seed=rows, resamples=1000) <= LEVEL + three_deviations, "the gain is the threshold itself"
    assert passes(rows, 0.3, 20, seed=rows, resamples=1000) > 0.9


def test_the_bounds_are_the_same_whenever_they_are_asked_for() -> None:
    base, tuned = np.arange(1.0, 40.0), 0.9 * np.arange(1.0, 40.0) + np.sin(np.arange(39))
    assert gain(base, tuned, 7) == gain(base, tuned, 7)
    found = gain(base, tuned, 7)
    assert found.low < found.estimate < found.high


def test_conversations_are_drawn_and_not_tokens() -> None:
    """One long conversation that gained does not speak for the others."""
    base = np.array([10_000.0] + [100.0] * 39)
    tuned = np.array([8_000.0] + [101.0] * 39)
    found = gain(base, tuned, 1)
    assert found.estimate > 10 and found.low < 0


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (41, 19, 0.00622), (10, 2, 0.0386)],
)
def test_the_sign_test_is_exact(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == sign_test(worse, better) == pytest.approx(p, rel=2e-3)
    assert 0 <= sign_test(20_000, 19_000) < 0.001
