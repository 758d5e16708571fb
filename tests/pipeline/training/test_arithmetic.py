"""The learning rate, early stopping, and what is best."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from pipeline.training.early_stopping import best_index, should_stop
from pipeline.training.schedule import learning_rate_share


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_no_step_is_made_with_a_learning_rate_of_zero(scheduler: Literal["cosine", "linear", "constant"]) -> None:
    shares = [learning_rate_share(step, scheduler=scheduler, warmup_steps=3, total_steps=10) for step in range(10)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:3] == sorted(shares[:3]) and shares[3] == 1
    assert shares[3:] == sorted(shares[3:], reverse=True)


def test_a_run_of_one_step_uses_the_peak() -> None:
    assert learning_rate_share(0, scheduler="cosine", warmup_steps=0, total_steps=1) == 1


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([], False),
        ([2.0], False),
        ([2.0, 1.9, 1.9, 1.9], True),
        ([2.0, 1.9, 1.9, 1.8], False),
        ([2.0, 1.9999, 1.9998], True),  # falls smaller than min_delta
        ([2.0, 1.9985, 1.997], False),  # that add up to more than it
        ([2.0, 2.1, 1.9, 2.5], False),
        ([1.0, math.nan, math.nan], True),
    ],
)
def test_training_stops_after_patience_evaluations_without_improvement(losses: list[float], stops: bool) -> None:
    assert should_stop(losses, patience=2, min_delta=0.002) is stops


def test_the_best_is_the_lowest_and_the_earlier_of_equals() -> None:
    assert best_index([2.0, 1.5, math.nan, 1.5]) == 1
    assert best_index([math.nan]) is None and best_index([]) is None
