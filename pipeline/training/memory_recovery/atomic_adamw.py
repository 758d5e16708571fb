"""AdamW whose step happens whole or not at all: memory that runs out in the middle of it leaves half of the weights moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from pipeline.system.out_of_memory import NO_ROOM, unless_short
from pipeline.training.memory_recovery.tensor_snapshot import TensorSnapshot


class AtomicAdamW(torch.optim.AdamW):
    """torch's AdamW; a step that finds no room is undone and made again, one weight at a time, and so are all that follow.

    Attributes:
        on_retry: called when that happens.
    """

    on_retry: Callable[[], None] = staticmethod(lambda: None)

    def step(self, closure: Any = None) -> Any:
        """One step, whole or not at all.

        Raises:
            torch.OutOfMemoryError: there is no room one weight at a time either. Weights and moments are as they were.
        """
        before = _StepSnapshot(self)
        done = unless_short(lambda: super(AtomicAdamW, self).step(closure))
        if done is not NO_ROOM:
            return done
        before.restore()
        self.on_retry()
        for group in self.param_groups:  # saved with the optimizer: a resume takes its steps as they were taken here
            group["foreach"] = group["fused"] = False
        try:
            return super().step(closure)
        except BaseException:
            before.restore()
            raise


class _StepSnapshot:
    """Weights and moments before a step. They lie where the activations were, so they take no memory that is not free then."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._state = optimizer.state
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._new = [weight for weight in self._weights if not self._state.get(weight)]  # without moments yet: the first step
        self._saved = TensorSnapshot([*self._weights, *self._moments()])

    def _moments(self) -> Iterable[torch.Tensor]:
        for weight in self._weights:
            # exp_avg and exp_avg_sq of the weight's shape, and step, ()
            yield from (value for value in self._state.get(weight, {}).values() if isinstance(value, torch.Tensor))

    def restore(self) -> None:
        self._saved.restore()
        for weight in self._new:  # its moments may be half made
            self._state.pop(weight, None)
