"""What a person should know while a run trains: one line, with the setting to change the next time. Nothing while all is well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.common.text import counted, loss
from screens.frame.run_snapshot import Snapshot

# Held-out losses in a row above the best that count as rising, and by how much the last one is.
_RISING, _RISEN_BY = 2, 0.01
# Steps looked back for what is usual; a loss that is so many times that is a spike, for so many steps told of.
_USUAL_STEPS, _SPIKE, _SPIKE_STEPS = 50, 2.0, 20
# Share of its peak at which a learning rate teaches nothing any more, and the share of all steps that must still be to come.
_NOTHING, _STEPS_LEFT = 0.01, 0.05


def live_verdict(snapshot: Snapshot) -> str:
    """The most telling finding of a run that is on; "" where there is none."""
    if not snapshot.live or not len(snapshot.columns.step):
        return ""
    return next(filter(None, (look(snapshot) for look in _LOOKS)), "")


def _held_out_rises(snapshot: Snapshot) -> str:
    losses, steps = snapshot.columns.held_loss, snapshot.columns.held_step
    if not len(losses) or not np.isfinite(losses).all():
        return ""
    best = int(np.argmin(losses))
    since = losses[best + 1 :]
    if len(since) < _RISING or since[-1] < losses[best] * (1 + _RISEN_BY) or (np.diff(losses[best:])[-_RISING:] <= 0).any():
        return ""
    lowest, now = loss(float(losses[best])), loss(float(since[-1]))
    return f"held-out up since step {counted(steps[best])} ({lowest} → {now}): lower train.epochs or train.lr"


def _loss_spikes(snapshot: Snapshot) -> str:
    losses, steps = snapshot.columns.loss, snapshot.columns.step
    usual = losses[-_USUAL_STEPS - _SPIKE_STEPS : -_SPIKE_STEPS]
    if len(usual) < _SPIKE_STEPS:
        return ""
    recent = losses[-_SPIKE_STEPS:]
    at = int(np.argmax(recent))
    if not recent[at] > _SPIKE * float(np.median(usual)):
        return ""
    text = f"loss leapt to {loss(float(recent[at]))} at step {counted(steps[-_SPIKE_STEPS:][at])}"
    return f"{text}: lower train.lr or longer train.warmup_ratio"


def _nothing_left_to_learn_with(snapshot: Snapshot) -> str:
    rates, state = snapshot.columns.lr, snapshot.state
    left = state.total_steps - state.step
    peak = float(rates.max())
    if not peak or float(rates[-1]) > _NOTHING * peak or left < _STEPS_LEFT * state.total_steps:
        return ""
    if int(np.argmax(rates)) >= len(rates) - 1:  # it still warms up
        return ""
    return f"learning rate is nothing for {counted(left)} more steps: train.scheduler or train.epochs"


_LOOKS: tuple[Callable[[Snapshot], str], ...] = (_loss_spikes, _held_out_rises, _nothing_left_to_learn_with)
