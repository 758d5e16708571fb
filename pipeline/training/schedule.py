"""The learning rate over the steps, as a share of its peak."""

from __future__ import annotations

import math
from typing import Literal

Scheduler = Literal["cosine", "linear", "constant"]


def learning_rate_share(step: int, *, scheduler: Scheduler, warmup_steps: int, total_steps: int) -> float:
    """The share of the peak learning rate that an optimizer step uses, from above 0 to 1.

    It rises to 1 in `warmup_steps` steps, none of them wasted at 0, then falls towards 0 and never reaches it within the run: by
    half a cosine (Loshchilov and Hutter 2017, without restarts) or along a line, or stays at 1.

    Args:
        step: from 0.
        total_steps: optimizer steps of the whole run, the warm-up's included.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if scheduler == "constant":
        return 1.0
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * done)) if scheduler == "cosine" else 1 - done
