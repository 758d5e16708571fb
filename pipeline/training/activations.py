"""Activations kept for the backward pass, or recomputed in it: a third more work for much less memory, and the same numbers."""

from __future__ import annotations

from typing import Any


def recompute(model: Any) -> None:
    """Keep only what goes into each layer from now on; of a model with an adapter too, also in the middle of training.

    Without re-entrant backward passes, which need inputs that require gradients and lose those of the first adapter.
    """
    if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5.23 on
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def are_recomputed(model: Any) -> bool:
    """Whether that is on."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def can_be_recomputed(model: Any) -> bool:
    """Whether its architecture knows how."""
    return any(hasattr(module, "gradient_checkpointing") for module in model.modules())
