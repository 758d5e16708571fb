"""Whether a suite fell: base and tuned model on the same items.

The sources of the methods are in docs/verdict.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.statistics import LEVEL, at_least, not_worse, sign_test
from pipeline.runs.events import SuiteMeasured, SuiteVerdict

FELL = 0.01
"""A fall is chance in one of a hundred suites at most: of eight, two-sided, in one of twenty-five runs."""
MARGIN = 0.10
"""What has fallen by less than this share of its items, at the confidence of the other gates, has held."""


def judged(name: str, base: ArrayLike, tuned: ArrayLike, chance: float | None, measure: str = "") -> SuiteMeasured:
    """What a suite says.

    Args:
        base, tuned: of each item, (items,): 1 for right, 0 for wrong, or a figure that is better the higher it is.
        chance: share right without knowing anything; None where that is not known.
        measure: what the figures are, where they are not right and wrong.
    """
    before, after = np.asarray(base, float), np.asarray(tuned, float)
    won, lost = int((after > before).sum()), int((after < before).sum())
    p_value = sign_test(won, lost)  # McNemar's exact test is the sign test of the pairs that differ
    verdict = _verdict(before, won, lost, None if measure else chance, right_or_wrong=not measure)
    return SuiteMeasured(
        name, len(before), float(before.mean()), float(after.mean()), won, lost, p_value, verdict, chance, measure
    )


def _verdict(base: NDArray[np.float64], won: int, lost: int, chance: float | None, *, right_or_wrong: bool) -> SuiteVerdict:
    count = len(base)
    if right_or_wrong and not informative(int(base.sum()), count, chance):
        return "not informative"
    if lost > won and sign_test(won, lost) < FELL:
        return "fell"
    holds = not_worse(won, lost, count, MARGIN) < LEVEL if right_or_wrong else not won and not lost
    return "held" if holds else "not enough evidence"


def informative(right: int, count: int, chance: float | None) -> bool:
    """Whether the base model knows enough for a fall to show: more is right than chance gives, and enough to lose."""
    above = chance is None or at_least(right, count, chance) < LEVEL
    return above and sign_test(0, right) < FELL
