"""Held-out loss and token accuracy of the base and the tuned model, on the same tokens in the same precision.

Rows are scored unpacked, padded to the longest of their batch and masked by length: no row sees another, whatever the attention
kernel. The base model is the tuned one with its adapter disabled, so nothing but the adapter differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

from pipeline.modeling.evaluation_mode import evaluating
from pipeline.system.out_of_memory import OutOfMemory, in_halves
from pipeline.tokenization.messages import NOT_TRAINED


class ScoredRow(NamedTuple):
    """A row's tokens, (tokens,) each.

    Attributes:
        labels: -100 where a token is not trained.
        weights: what the loss of each label is multiplied by, as in training; None for ones.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    weights: Sequence[float] | NDArray[np.float32] | None = None


PARTS = 3
FIRST_ANSWER, LATER_ANSWERS, TEMPLATE = range(PARTS)
"""What a trained token is part of: an answer's own text, or what the chat template writes (a turn's end, markers)."""


class ScoredRows(Protocol):
    """Rows by their number, from 0."""

    def __getitem__(self, index: int, /) -> ScoredRow: ...


@dataclass(frozen=True)
class Score:
    """Sums over the trained tokens of each row and part.

    Attributes:
        losses: (rows, PARTS) float64, nats, each token's times its weight.
        counts: tokens, (rows, PARTS) int64.
        weights: their weights, (rows, PARTS) float64: as `counts` where all weigh one.
        correct: tokens that were the model's first choice, of all rows.
    """

    losses: NDArray[np.float64]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]
    correct: int

    @classmethod
    def of(cls, rows: int) -> Score:
        return cls(np.zeros((rows, PARTS)), np.zeros((rows, PARTS), np.int64), np.zeros((rows, PARTS)), 0)

    def with_batch(self, batch: Sequence[int], scored: Score) -> Score:
        """This one, the rows of `batch` filled in (in place: there may be a million)."""
        rows = list(batch)
        self.losses[rows], self.counts[rows], self.weights[rows] = scored.losses, scored.counts, scored.weights
        return Score(self.losses, self.counts, self.weights, self.correct + scored.correct)

    @property
    def tokens(self) -> int:
        return int(self.counts.sum())

    @property
    def loss_sum(self) -> float:
        """Nats."""
        return float(self.losses.sum())

    @property
    def loss(self) -> float:
        """Mean over the tokens, each by its weight, nats."""
        return self.loss_sum / float(self.weights.sum()) if self.tokens else math.nan

    @property
    def accuracy(self) -> float:
        """Share of the tokens that were the model's first choice, whatever they weigh."""
        return self.correct / self.tokens if self.tokens else math.nan


def compare(
    model: Any,
    rows: ScoredRows,
    lengths: Sequence[int],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
    template_ids: Collection[int] = (),
) -> tuple[Score, Score]:
    """Score `rows` without and with the adapter.

    Args:
        model: a `PeftModel`.
        rows: looked up one batch at a time, so they may lie on disk.
        lengths: of the rows, in tokens.
        batch_tokens: most tokens of a batch, padding included; a longer row stands alone. Pass what training had in one forward
            pass at least: without gradients the same number needs less memory.
        progress: called with how many rows are done, after every batch.
        template_ids: tokens that only the chat template writes.

    Returns:
        (base, tuned)

    Raises:
        OutOfMemory: one row does not fit; fewer at once are tried first, and no more than that from then on.
    """
    base, tuned, done, most = Score.of(len(lengths)), Score.of(len(lengths)), 0, [batch_tokens]
    device = next(model.parameters()).device
    of_template = np.array(sorted(template_ids), np.int64)

    def scores(batch: Sequence[int]) -> list[tuple[Sequence[int], Score, Score]]:
        chosen = [rows[i] for i in batch]
        tensors, parts, weights = _padded(chosen, device), _parts(chosen, of_template), _weights(chosen)
        with model.disable_adapter():
            before = _score(model, *tensors, parts, weights)
        return [(batch, before, _score(model, *tensors, parts, weights))]

    with torch.no_grad(), evaluating(model):
        for batch in _batches(lengths, lambda: most[-1]):
            scored = in_halves(batch, scores, lambda i: _row_fault(lengths[i]))
            if len(scored) > 1:
                most.append(len(batch) * lengths[batch[0]] // 2)
            for part, before, after in scored:
                base, tuned = base.with_batch(part, before), tuned.with_batch(part, after)
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
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, NOT_TRAINED, np.int64)
    for number, row in enumerate(rows):
        tokens = len(row.ids)
        ids[number, :tokens], labels[number, :tokens], mask[number, :tokens] = row.ids, row.labels, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device), torch.from_numpy(labels).to(device)


def first_answer(labels: ArrayLike) -> tuple[int, int]:
    """(start, end) of the first stretch of trained tokens; equal where there is none."""
    trained = np.flatnonzero(np.asarray(labels) != NOT_TRAINED)
    if not trained.size:
        return 0, 0
    gaps = np.flatnonzero(np.diff(trained) > 1)
    return int(trained[0]), int(trained[gaps[0]] if gaps.size else trained[-1]) + 1


def _parts(rows: Sequence[ScoredRow], template_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row and part of each token that is predicted and trained, `row * PARTS + part`: (trained tokens,), row by row."""
    keys = []
    for number, row in enumerate(rows):
        labels = np.asarray(row.labels, np.int64)
        part = np.full(labels.size, LATER_ANSWERS)
        part[slice(*first_answer(labels))] = FIRST_ANSWER
        part[np.isin(labels, template_ids)] = TEMPLATE
        keys.append(number * PARTS + part[1:][labels[1:] != NOT_TRAINED])
    return np.concatenate(keys)


def _weights(rows: Sequence[ScoredRow]) -> NDArray[np.float64] | None:
    """Of the same tokens as `_parts`; None where all weigh one."""
    if all(row.weights is None for row in rows):
        return None
    weights = [np.ones(len(row.ids)) if row.weights is None else np.asarray(row.weights, np.float64) for row in rows]
    return np.concatenate([each[1:][np.asarray(row.labels)[1:] != NOT_TRAINED] for each, row in zip(weights, rows, strict=True)])


def _score(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
    parts: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
) -> Score:
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (rows, tokens, vocabulary) in the compute dtype
    following = labels[:, 1:]  # (rows, tokens - 1): position t predicts token t + 1
    trained = following != NOT_TRAINED  # (rows, tokens - 1) bool
    # (trained tokens, vocabulary) float32, (trained tokens,). The softmax in 32 bits is the largest tensor of the pass.
    guesses, targets = logits[:, :-1][trained].float(), following[trained]
    losses = functional.cross_entropy(guesses, targets, reduction="none").double().cpu().numpy()  # (trained tokens,) nats
    size = len(ids) * PARTS
    return Score(
        np.bincount(parts, losses if weights is None else losses * weights, size).astype(float).reshape(-1, PARTS),
        np.bincount(parts, minlength=size).reshape(-1, PARTS),
        np.bincount(parts, weights, size).astype(float).reshape(-1, PARTS),
        int((guesses.argmax(1) == targets).sum()),
    )
