"""The base and the tuned model on each conversation by itself: what a verdict rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.statistics import LEVEL, Bounds, gain, sign_test

if TYPE_CHECKING:
    from pipeline.evaluation.scoring import Score

_SAME = 1e-6  # of a conversation's loss: the rounding of sums


def paired(base: Score, tuned: Score, owners: NDArray[np.int32], seed: int) -> dict[str, Any] | None:
    """What a report says of a split, conversation by conversation; None where a loss is no finite number.

    The text of the answers is judged; what the chat template writes (the end of a turn) stands apart, for to learn it is easy and
    says nothing about the answers.

    Args:
        base, tuned: of the split's documents.
        owners: of each document, the number of its conversation.
    """
    if not (np.isfinite(base.losses).all() and np.isfinite(tuned.losses).all()):
        return None
    conversations, owner = np.unique(owners, return_inverse=True)
    before, after = (_summed(score.losses[:, :2].sum(axis=1), owner, len(conversations)) for score in (base, tuned))
    tokens = _summed(base.counts[:, :2].sum(axis=1), owner, len(conversations))
    text_weight, template_weight = base.weights[:, :2].sum(), base.weights[:, 2].sum()
    better, worse = _sides(before, after)
    bounds = gain(before, after, seed) if len(conversations) > 1 else _unbounded(before, after)
    return {
        "conversations": len(conversations),
        "better": better,
        "worse": worse,
        "p_value": sign_test(better, worse),
        "gain_pct": bounds.estimate,
        "gain_low_pct": bounds.low,
        "gain_high_pct": bounds.high,
        "level": LEVEL,
        "text_tokens": int(tokens.sum()),
        "base_text_loss": _mean(before.sum(), text_weight),
        "tuned_text_loss": _mean(after.sum(), text_weight),
        "template_tokens": int(base.counts[:, 2].sum()),
        "base_template_loss": _mean(base.losses[:, 2].sum(), template_weight),
        "tuned_template_loss": _mean(tuned.losses[:, 2].sum(), template_weight),
        "by_conversation": {
            "base": np.round(before, 4).tolist(),
            "tuned": np.round(after, 4).tolist(),
            "tokens": tokens.astype(int).tolist(),
        },
    }


def _summed(values: NDArray[Any], owner: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return np.bincount(owner, values, count).astype(float)


def _sides(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[int, int]:
    """(conversations of a lower loss, of a higher loss) with the adapter; equal ones are neither."""
    change, noise = before - after, _SAME * np.abs(before)
    return int((change > noise).sum()), int((-change > noise).sum())


def _unbounded(before: NDArray[np.float64], after: NDArray[np.float64]) -> Bounds:
    """One conversation says nothing about others."""
    estimate = 100 * float((before - after).sum() / before.sum()) if before.sum() > 0 else 0.0
    return Bounds(estimate, -100.0, 100.0)


def _mean(total: float, weight: float) -> float | None:
    """Nats a token; None for no tokens."""
    return float(total) / float(weight) if weight else None
