"""The loss: cross-entropy of the next token where it has a label, in nats."""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.tokenization.messages import NOT_TRAINED


def loss_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed over the trained tokens, in 32 bits.

    Args:
        logits: (rows, tokens, vocabulary); position t predicts token t + 1.
        labels: (rows, tokens), -100 where a token is not trained.
    """
    wanted = labels[:, 1:]
    trained = wanted != NOT_TRAINED
    # Only the logits that count are widened: the softmax in 32 bits is the largest tensor of a step.
    return functional.cross_entropy(logits[:, :-1][trained].float(), wanted[trained], reduction="sum")


def trained_tokens(labels: torch.Tensor) -> int:
    """How many tokens `loss_sum` sums over."""
    return int((labels[:, 1:] != NOT_TRAINED).sum())
