"""Losses of a base and a tuned model on made-up conversations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.paired import paired
from pipeline.evaluation.scoring import FIRST_ANSWER, TEMPLATE, Score

Losses = NDArray[np.float64]


def pair(rows: int, gain: float, generator: np.random.Generator) -> tuple[Losses, Losses, NDArray[np.int64]]:
    """(base, tuned, tokens): sums of the loss of each conversation, nats, and its tokens.

    As instruction data is: answers of 10 to several hundred tokens, conversations of very different difficulty, and a change that
    differs from one to the next three times as much as it is on average when it is 3 %.

    Args:
        gain: share of the base model's loss that the tuned one's is lower by in the mean.
    """
    tokens = np.clip(generator.lognormal(4.0, 0.9, rows), 10, 1000).astype(np.int64)
    base = tokens * generator.lognormal(0.3, 0.4, rows)
    return base, base * (1 - gain - 0.1 * generator.standard_normal(rows)), tokens


def figures(
    base: Losses, tuned: Losses, tokens: NDArray[np.int64], *, split: str = "test", template: float = 0.5
) -> dict[str, Any]:
    """What the gate is given of them: the report's part, with its split. `template`: the tuned model's loss on a turn's end."""
    before, after = (_score(each, tokens, end) for each, end in ((base, 0.5), (tuned, template)))
    by = paired(before, after, np.arange(len(base), dtype=np.int32), seed=42)
    return {"split": split, "rows": len(base), "tokens": before.tokens, "base_loss": 1.0, "tuned_loss": 1.0, "paired": by}


def _score(losses: Losses, tokens: NDArray[np.int64], end: float) -> Score:
    score = Score.of(len(losses))
    score.losses[:, FIRST_ANSWER], score.losses[:, TEMPLATE] = losses, end
    for each in (score.counts, score.weights):
        each[:, FIRST_ANSWER], each[:, TEMPLATE] = tokens, 1
    return score
