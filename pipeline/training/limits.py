"""What a run has learned about its memory. Saved with each checkpoint, so that a resume does not have to learn it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """Most tokens at once, padding included; None while everything fitted.

    Attributes:
        train_tokens: of a forward and backward pass.
        held_out_tokens: of a forward pass over held-out rows.
        checkpointing: not even one document fitted without recomputing activations.
    """

    train_tokens: int | None = None
    held_out_tokens: int | None = None
    checkpointing: bool = False
