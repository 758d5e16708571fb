"""The state of every random generator that training draws from: torch on the CPU and the GPU, numpy, Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """A snapshot. `cuda` holds one state a visible GPU, and is empty without."""

    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]
    numpy: Any  # as numpy.random.get_state gives it
    python: tuple[Any, ...]

    @classmethod
    def capture(cls) -> RandomState:
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
        return cls(torch.get_rng_state(), cuda, np.random.get_state(legacy=True), random.getstate())

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(list(self.cuda))
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def tensors(self) -> dict[str, torch.Tensor]:
        """torch's states, uint8."""
        return {"cpu": self.cpu} | {f"cuda.{index}": state for index, state in enumerate(self.cuda)}

    def to_json(self) -> dict[str, Any]:
        """numpy's and Python's states."""
        name, keys, *rest = self.numpy
        return {"numpy": [name, keys.tolist(), *rest], "python": self.python}

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor], document: dict[str, Any]) -> RandomState:
        """From what `tensors` and `to_json` gave."""
        cuda = tuple(tensors[f"cuda.{index}"] for index in range(len(tensors) - 1))
        name, keys, *rest = document["numpy"]
        version, state, gauss = document["python"]
        return cls(tensors["cpu"], cuda, (name, np.array(keys, np.uint32), *rest), (version, tuple(state), gauss))


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is drawn inside, the generators are outside as they were."""
    state = RandomState.capture()
    try:
        yield
    finally:
        state.restore()
