"""The loss: cross-entropy of the next token where it has a label, in nats."""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.tokenization.messages import NOT_TRAINED


def loss_sum(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The cross-entropy summed over the trained tokens, () float32, in nats.

    Args:
        logits: (rows, tokens, vocabulary) in the compute dtype; position t predicts token t + 1.
        labels: (rows, tokens) int64, -100 where a token is not trained.
        weights: (rows, tokens) float32, what each token's loss is multiplied by; None for ones.
    """
    targets = labels[:, 1:]  # (rows, tokens - 1) int64
    trained = targets != NOT_TRAINED  # (rows, tokens - 1) bool
    # Only the logits that count are widened: the softmax in 32 bits is the largest tensor of a step.
    guesses, wanted = logits[:, :-1][trained].float(), targets[trained]
    if weights is None:
        return functional.cross_entropy(guesses, wanted, reduction="sum")
    return (functional.cross_entropy(guesses, wanted, reduction="none") * weights[:, 1:][trained]).sum()


def trained_tokens(labels: torch.Tensor) -> int:
    """How many tokens of `labels` (rows, tokens) `loss_sum` sums over."""
    return int((labels[:, 1:] != NOT_TRAINED).sum())
