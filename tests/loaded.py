"""The libraries that a training takes, and keeping them out of the garbage collector's way.

A training collects garbage several times, on purpose. To look through all that the libraries keep for good took half of the time
of a tiny one.
"""

from __future__ import annotations

import gc
import importlib
import sys

HEAVY = (
    "torch", "transformers.trainer", "peft", "bitsandbytes", "datasets", "accelerate", "safetensors.torch",
    "pipeline.training.train",
)  # fmt: skip
_seen: set[str] = set()


def load() -> None:
    """Load what a training takes."""
    for name in HEAVY:
        importlib.import_module(name)
    set_aside()


def set_aside() -> None:
    """Once more of the heavy libraries are there, let no later collection look through what is there now."""
    loaded = {name for name in HEAVY if name in sys.modules}
    if loaded - _seen:
        _seen.update(loaded)
        gc.collect()
        gc.freeze()
