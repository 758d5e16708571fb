"""What a training run knows about itself beyond weights: held-out losses, time, tokens. Saved with each checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.training.early_stopping import best_index
from pipeline.training.memory_recovery.limits import Limits


@dataclass
class Progress:
    """Grows step by step; a resume goes on from the one in its checkpoint.

    Attributes:
        seconds: wall time of optimizer steps, all attempts.
        tokens: real tokens trained on, padding left out.
        step_seconds, step_tokens: of the counted steps (see `TrainStep.counted`), in order.
        held_out_steps, held_out_losses: one entry an evaluation; nats a token.
        peak_memory_bytes: of the process on its device, the highest of all attempts.
        limits: what was learned when memory ran out.
    """

    seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0
    step_seconds: list[float] = field(default_factory=list)
    step_tokens: list[int] = field(default_factory=list)
    held_out_steps: list[int] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)

    def add_step(self, seconds: float, tokens: int, peak_memory_bytes: int, *, counted: bool) -> None:
        """Add an optimizer step.

        Args:
            seconds: wall time, evaluations and checkpoints left out.
            tokens: real ones.
            counted: its time is like the others' (see `TrainStep.counted`).
        """
        self.seconds += seconds
        self.tokens += tokens
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory_bytes)
        if counted:
            self.step_seconds.append(round(seconds, 6))  # to the microsecond
            self.step_tokens.append(tokens)

    def add_evaluation(self, step: int, loss: float) -> bool:
        """Add the held-out loss of `step`, nats a token; returns whether it is the best so far."""
        self.held_out_steps.append(step)
        self.held_out_losses.append(loss)
        return best_index(self.held_out_losses) == len(self.held_out_losses) - 1

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss) of the best evaluation; None before the first."""
        index = best_index(self.held_out_losses)
        return None if index is None else (self.held_out_steps[index], self.held_out_losses[index])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Progress:
        return cls(**document | {"limits": Limits(**document.get("limits", {}))})
