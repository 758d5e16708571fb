"""Activations saved for the backward pass, or recomputed in it: a third more work for much less memory, and the same numbers.

Chen et al. 2016, "Training deep nets with sublinear memory cost". The third: a backward pass costs about two forward passes, and
one is added to these three.
"""

from __future__ import annotations

from typing import Any, Protocol


class Activations(Protocol):
    """Whatever trains, asked about its activations."""

    def recompute(self) -> None:
        """Save only what goes into each layer from now on, and run the layer again in the backward pass."""

    def are_recomputed(self) -> bool:
        """Whether that is on."""

    def can_be_recomputed(self) -> bool:
        """Whether its architecture knows how."""


class ModelActivations:
    """Those of a transformers model, with an adapter around it or without, also in the middle of training."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def recompute(self) -> None:
        """Without re-entrant backward passes, which need inputs that require gradients and lose those of the first adapter."""
        if hasattr(self._model, "activation_checkpointing_enable"):  # its name from transformers 5.23 on
            self._model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            self._model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def are_recomputed(self) -> bool:
        return any(getattr(module, "gradient_checkpointing", False) for module in self._model.modules())

    def can_be_recomputed(self) -> bool:
        return any(hasattr(module, "gradient_checkpointing") for module in self._model.modules())
