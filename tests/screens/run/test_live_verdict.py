"""What is said of a run while it trains, from curves made for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from screens.run.live_verdict import live_verdict

STEADY = np.linspace(3.0, 1.5, 200)
COSINE = 2e-4 * (1 + np.cos(np.linspace(0, np.pi, 200))) / 2


def snapshot(losses: Any = STEADY, held: Any = (2.0, 1.8, 1.7), rates: Any = None, total: int = 400, live: bool = True) -> Any:
    losses, held = np.asarray(losses, float), np.asarray(held, float)
    rates = np.full(len(losses), 2e-4) if rates is None else rates
    columns = SimpleNamespace(
        step=np.arange(1.0, len(losses) + 1), loss=losses, lr=rates, held_step=100.0 * np.arange(1, len(held) + 1), held_loss=held
    )
    return SimpleNamespace(live=live, columns=columns, state=SimpleNamespace(step=len(losses), total_steps=total))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"held": ()}, ""),
        ({"losses": ()}, ""),
        ({"held": (2.0, 1.5, 1.6, 1.7)}, "held-out up since step 200 (1.500 → 1.700): lower train.epochs or train.lr"),
        ({"held": (2.0, 1.5, 1.6, 1.7), "live": False}, ""),
        ({"held": (2.0, 1.5, 1.6, 1.55)}, ""),  # down again
        ({"held": (2.0, 1.5, 1.501, 1.502)}, ""),  # noise
        ({"losses": [*STEADY, 6.0, 1.6]}, "loss leapt to 6.000 at step 201: lower train.lr"),
        ({"losses": [*STEADY, 6.0, *STEADY[:30]]}, ""),  # long ago
        ({"rates": COSINE}, "learning rate is nothing for 200 more steps: train.scheduler"),
        ({"rates": COSINE, "total": 205}, ""),  # as a schedule ends
        ({"rates": np.linspace(0, 1e-6, 200)}, ""),  # it warms up
    ],
)
def test_a_finding_is_said_with_the_setting_to_change(given: dict[str, Any], said: str) -> None:
    verdict = live_verdict(snapshot(**given))
    assert verdict.startswith(said) and bool(verdict) == bool(said)
    assert len(verdict) <= 76  # a line at 80 columns
