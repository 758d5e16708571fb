"""Held-out loss and token accuracy of the base and the tuned model, on the same tokens in the same precision.

Rows are scored unpacked, padded to the longest of their batch and masked by length: no row sees another, whatever the attention
kernel. The base model is the tuned one with its adapter disabled, so nothing but the adapter differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from pipeline.modeling.evaluation_mode import evaluating
from pipeline.system.out_of_memory import OutOfMemory, in_halves
from pipeline.tokenization.messages import NOT_TRAINED

ScoredRow = tuple[Sequence[int], Sequence[int]]
"""(input_ids, labels), (tokens,) each; labels are -100 where a token is not trained."""


class ScoredRows(Protocol):
    """Rows by their number, from 0."""

    def __getitem__(self, index: int, /) -> ScoredRow: ...


@dataclass(frozen=True)
class Score:
    """Sums over trained tokens, so that scores of parts add up to the score of the whole."""

    loss_sum: float = 0.0  # nats
    correct: int = 0
    tokens: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.loss_sum + other.loss_sum, self.correct + other.correct, self.tokens + other.tokens)

    @property
    def loss(self) -> float:
        """Mean over the tokens, nats."""
        return self.loss_sum / self.tokens if self.tokens else math.nan

    @property
    def accuracy(self) -> float:
        """Share of the tokens that were the model's first choice."""
        return self.correct / self.tokens if self.tokens else math.nan


def compare(
    model: Any,
    rows: ScoredRows,
    lengths: Sequence[int],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Score, Score]:
    """Score `rows` without and with the adapter.

    Args:
        model: a `PeftModel`.
        rows: looked up one batch at a time, so they may lie on disk.
        lengths: of the rows, in tokens.
        batch_tokens: most tokens of a batch, padding included; a longer row stands alone. Pass what training had in one forward
            pass at least: without gradients the same number needs less memory.
        progress: called with how many rows are done, after every batch.

    Returns:
        (base, tuned)

    Raises:
        OutOfMemory: one row does not fit; fewer at once are tried first, and no more than that from then on.
    """
    base, tuned, done, most = Score(), Score(), 0, [batch_tokens]
    device = next(model.parameters()).device

    def scores(batch: Sequence[int]) -> list[tuple[Score, Score]]:
        tensors = _padded([rows[i] for i in batch], device)
        with model.disable_adapter():
            before = _score(model, *tensors)
        return [(before, _score(model, *tensors))]

    with torch.no_grad(), evaluating(model):
        for batch in _batches(lengths, lambda: most[-1]):
            parts = in_halves(batch, scores, lambda i: _row_fault(lengths[i]))
            if len(parts) > 1:
                most.append(len(batch) * lengths[batch[0]] // 2)
            base, tuned = sum((part[0] for part in parts), base), sum((part[1] for part in parts), tuned)
            done += len(batch)
            progress(done)
    return base, tuned


def _row_fault(tokens: int) -> OutOfMemory:
    return OutOfMemory(
        f"memory ran out while one conversation of {tokens:,} tokens was scored",
        "free memory on this device, or set compute.gpu to cpu; humigence eval starts over, what was trained is kept",
    )


def _batches(lengths: Sequence[int], most_tokens: Callable[[], int]) -> Iterator[list[int]]:
    """Row indices, the longest rows first: memory that is too small shows at once, not at the end."""
    batch: list[int] = []
    for index in np.argsort(lengths, kind="stable")[::-1].tolist():
        if batch and (len(batch) + 1) * lengths[batch[0]] > most_tokens():
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _padded(rows: Sequence[ScoredRow], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, mask, labels), each (rows, longest row) int64, padded on the right."""
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    ids, mask, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, NOT_TRAINED, np.int64)
    for row, (row_ids, row_labels) in enumerate(rows):
        ids[row, : len(row_ids)], labels[row, : len(row_ids)], mask[row, : len(row_ids)] = row_ids, row_labels, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device), torch.from_numpy(labels).to(device)


def _score(model: Any, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> Score:
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (rows, tokens, vocabulary) in the compute dtype
    following = labels[:, 1:]  # (rows, tokens - 1): position t predicts token t + 1
    trained = following != NOT_TRAINED  # (rows, tokens - 1) bool
    # (trained tokens, vocabulary) float32, (trained tokens,). The softmax in 32 bits is the largest tensor of the pass.
    guesses, targets = logits[:, :-1][trained].float(), following[trained]
    loss = functional.cross_entropy(guesses, targets, reduction="none").double().sum()  # nats
    return Score(float(loss), int((guesses.argmax(1) == targets).sum()), int(trained.sum()))
