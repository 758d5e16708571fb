"""When the held-out loss no longer falls. A function of the losses so far, so that a resumed run decides as an untroubled one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def should_stop(losses: Sequence[float], patience: int, min_delta: float) -> bool:
    """Whether the last `patience` evaluations brought no improvement.

    Args:
        losses: held-out losses in order, nats a token; NaN is no improvement.
        patience: evaluations.
        min_delta: nats a token; a fall below the best so far smaller than this is no improvement.
    """
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - min_delta:
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= patience


def best_index(losses: Sequence[float]) -> int | None:
    """Index of the evaluation with the lowest loss, the earlier of equals; NaN never is the lowest. None without any."""
    finite = [(loss, index) for index, loss in enumerate(losses) if not math.isnan(loss)]
    return min(finite)[1] if finite else None
