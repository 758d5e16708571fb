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

    def message(self) -> str:
        """What a resume is held to, for the log; empty where nothing is limited."""
        parts = [f"at most {self.train_tokens:,} tokens at once"] if self.train_tokens else []
        parts += ["activations recomputed"] if self.checkpointing else []
        return f"memory ran out before: going on with {', '.join(parts)}" if parts else ""
