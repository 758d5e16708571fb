"""AdamW whose step happens whole or not at all: memory that runs out in the middle of it leaves half of the weights moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from pipeline.system.out_of_memory import NO_ROOM, unless_short
from pipeline.training.memory_recovery.tensor_snapshot import SavedTensors


class SteadyAdamW(torch.optim.AdamW):
    """torch's AdamW; a step that finds no room is undone and made again, one weight at a time, and so are all that follow.

    Attributes:
        short: called when that happens.
    """

    short: Callable[[], None] = staticmethod(lambda: None)

    def step(self, closure: Any = None) -> Any:
        """Where that does not help either, what torch raises is raised, and weights and moments are as they were."""
        before = _Before(self)
        done = unless_short(lambda: super(SteadyAdamW, self).step(closure))
        if done is not NO_ROOM:
            return done
        before.restore()
        self.short()
        for group in self.param_groups:  # saved with the optimizer: a resume takes its steps as they were taken here
            group["foreach"] = group["fused"] = False
        try:
            return super().step(closure)
        except BaseException:
            before.restore()
            raise


class _Before:
    """Weights and moments before a step. They lie where the activations were, so they take no memory that is not free then."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._state = optimizer.state
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._new = [weight for weight in self._weights if not self._state.get(weight)]
        self._saved = SavedTensors([*self._weights, *self._moments()])

    def _moments(self) -> Iterable[torch.Tensor]:
        for weight in self._weights:
            yield from (value for value in self._state.get(weight, {}).values() if isinstance(value, torch.Tensor))

    def restore(self) -> None:
        self._saved.restore()
        for weight in self._new:  # its moments may have been made by half
            self._state.pop(weight, None)
