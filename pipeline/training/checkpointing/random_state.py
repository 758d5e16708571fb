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
    """A snapshot."""

    cpu: torch.Tensor  # (5056,) uint8: torch's Mersenne Twister
    cuda: tuple[torch.Tensor, ...]  # (16,) uint8 each, one a visible GPU; empty without any
    numpy: Any  # as numpy.random.get_state gives it
    python: tuple[Any, ...]  # as random.getstate gives it

    @classmethod
    def capture(cls) -> RandomState:
        """Of this process, now."""
        # Asking CUDA begins it: a training on the CPU would take hundreds of MiB of a card that it leaves alone.
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), cuda, np.random.get_state(legacy=True), random.getstate())

    def restore(self) -> None:
        """Let every generator of this process go on from here; a GPU's where it has one."""
        torch.set_rng_state(self.cpu)
        if self.cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(list(self.cuda))
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def tensors(self) -> dict[str, torch.Tensor]:
        """torch's states by name, as safetensors stores them."""
        return {"cpu": self.cpu} | {f"cuda.{index}": state for index, state in enumerate(self.cuda)}

    def to_json(self) -> dict[str, Any]:
        """numpy's and Python's states, as JSON stores them."""
        name, keys, *rest = self.numpy
        return {"numpy": [name, keys.tolist(), *rest], "python": self.python}

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor], document: dict[str, Any]) -> RandomState:
        """The state of which `tensors` and `to_json` gave these, read from files."""
        cuda = tuple(tensors[f"cuda.{index}"] for index in range(len(tensors) - 1))
        name, keys, *rest = document["numpy"]
        version, state, gauss = document["python"]
        return cls(tensors["cpu"], cuda, (name, np.array(keys, np.uint32), *rest), (version, tuple(state), gauss))


@contextmanager
def preserved() -> Iterator[None]:
    """Whatever is drawn inside, the generators are outside as they were."""
    state = RandomState.capture()
    try:
        yield
    finally:
        state.restore()
