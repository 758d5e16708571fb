"""How sure a difference between two models is, measured on the same conversations.

The sources of the methods and what they find by how many rows are in docs/verdict.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""A gain's lower bound exceeds the true gain in one of twenty data sets at most; a sign test's finding is chance as seldom."""
RESAMPLES = 10_000
_LEAST_RESAMPLES = 1_000
_MOST_DRAWS = 50_000_000  # of conversations, in all resamples: a second
_DRAWS_AT_ONCE = 1_000_000

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """An estimate and its one-sided bounds at `LEVEL` each."""

    estimate: float
    low: float
    high: float


def gain(base: Sums, tuned: Sums, seed: int, resamples: int = RESAMPLES) -> Bounds:
    """By how much the tuned model's loss is lower, in percent of the base model's: the ratio of the sums, bootstrapped.

    Args:
        base, tuned: sum of the loss of each conversation, (conversations,) nats; at least two.
    """
    # Tokens cancel: both sums are over the same ones.
    return resampled(base - tuned, base, seed, scale=100.0, resamples=resamples)


def resampled(numerator: Sums, denominator: Sums, seed: int, *, scale: float = 1.0, resamples: int = RESAMPLES) -> Bounds:
    """The ratio of two sums over conversations, with bounds from a paired bootstrap over them.

    The percentiles are moved outwards as a t interval's are for few conversations (Hesterberg's expanded percentile).
    """
    count = len(numerator)
    generator = np.random.default_rng(seed)
    resamples = max(_LEAST_RESAMPLES, min(resamples, _MOST_DRAWS // count))
    chunk = max(1, _DRAWS_AT_ONCE // count)
    ratios = np.concatenate([
        _ratios(numerator, denominator, generator.integers(0, count, (min(chunk, resamples - done), count)))
        for done in range(0, resamples, chunk)
    ])  # fmt: skip
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * _t_quantile(1 - LEVEL, count - 1))
    low, high = np.quantile(ratios, (tail, 1 - tail))
    estimate = float(_ratio(numerator.sum(keepdims=True), denominator.sum(keepdims=True))[0])
    return Bounds(scale * estimate, scale * float(low), scale * float(high))


def _ratios(numerator: Sums, denominator: Sums, drawn: NDArray[np.int64]) -> Sums:
    return _ratio(numerator[drawn].sum(axis=1), denominator[drawn].sum(axis=1))


def _ratio(above: Sums, below: Sums) -> Sums:
    ratio: Sums = np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)
    return ratio


def _t_quantile(share: float, freedom: int) -> float:
    """Student's t by its expansion around the normal distribution (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def sign_test(better: int, worse: int) -> float:
    """How likely so uneven a split, or a more uneven one, is where either is as likely: exact, two-sided. 1.0 for none at all."""
    count, fewer = better + worse, min(better, worse)
    term = total = 1  # how many of the 2^count outcomes
    for k in range(fewer):
        term = term * (count - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / (1 << count)) if count else 1.0


def at_least(right: int, count: int, chance: float) -> float:
    """How likely `right` or more of `count` are, where each is right with probability `chance`: exact."""
    if right <= 0:
        return 1.0
    if not 0 < chance < 1:
        return float(chance >= 1)
    each = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(chance) + (count - k) * math.log1p(-chance)
        for k in range(right, count + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, each)))


def not_worse(won: int, lost: int, count: int, margin: float) -> float:
    """How likely so good a result, or a better one, is where the share right has fallen by `margin`: Tango's score test.

    Args:
        won, lost: of `count` pairs, those that only the second or only the first of a pair got right.
        margin: a share, above 0.
    """
    fall = -margin
    a, c = 2 * count, -lost * fall * (1 - fall)
    b = -won - lost + (2 * count - won + lost) * fall
    likely_lost = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)  # its share, most likely at that fall
    spread = math.sqrt(count * (2 * likely_lost + fall * (1 - fall)))
    return 1 - NormalDist().cdf((won - lost + count * margin) / spread) if spread > 0 else float(won - lost + count * margin <= 0)
