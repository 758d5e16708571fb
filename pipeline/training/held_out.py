"""Held-out loss while training: packed like the training rows, on the same documents every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.dataset.loss_weights import LossWeights
from pipeline.dataset.packing import pack
from pipeline.modeling.evaluation_mode import evaluating
from pipeline.planning.compute import Isolation
from pipeline.training.checkpointing import random_state
from pipeline.training.isolation import model_inputs
from pipeline.training.loss import loss_sum
from pipeline.training.memory_recovery.recovery import TrainingMemory
from pipeline.training.packed_rows import BY_TOKEN, Documents, PackedRows, collate

LossOf = Callable[[dict[str, Any]], float]
"""The sum of the losses of a collated micro-batch, each times its weight, in nats."""


def drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the held-out documents that are judged while training: at most `most`, spread over all of them.

    One is drawn from each of `most` stretches of equal length. Documents lie in the order of their files, so that every source
    has its share, whether one follows another or they take turns.
    """
    if count <= most:
        return np.arange(count)
    bounds = np.arange(most + 1) * count // most
    return np.random.default_rng(seed).integers(bounds[:-1], bounds[1:])


class HeldOutRows:
    """Some of the held-out split, in packed rows.

    Args:
        lengths: (documents,), tokens of each.
        chosen: numbers of the documents that are taken.
        row_tokens: capacity of a row.
        packing: several documents to a row; else one.
        weights: of the documents' labels in the loss; None where all weigh one.
    """

    def __init__(
        self,
        documents: Documents,
        lengths: np.ndarray[Any, Any],
        chosen: NDArray[np.int64],
        *,
        row_tokens: int,
        packing: bool,
        weights: LossWeights | None = None,
    ) -> None:
        rows = [chosen[row] for row in pack(lengths[chosen], row_tokens, packing)]
        self.rows = PackedRows(documents, rows, weights)

    def loss(
        self, loss_of: LossOf, micro_batch: int, memory: TrainingMemory, progress: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[float, int]:
        """The mean loss over the trained tokens, each by its weight: what training makes smaller.

        Args:
            loss_of: see `LossOf`.
            micro_batch: rows of a forward pass, fewer where memory runs out.
            progress: called before each pass with the rows that are done, and of how many; may raise to end it.

        Returns:
            nats a token; the number of trained tokens.

        Raises:
            OutOfMemory: one document does not fit.
        """
        total, weight, tokens = 0.0, 0.0, 0
        for start in range(0, len(self.rows), micro_batch):
            progress(start, len(self.rows))
            batch = collate([self.rows[i] for i in range(start, min(start + micro_batch, len(self.rows)))])
            total += sum(memory.held_out(batch, loss_of))
            tokens += batch["trained_tokens"]
            weight += float(batch["weights"].double().sum()) if "weights" in batch else batch["trained_tokens"]
        return total / weight, tokens


@contextmanager
def losses_of(model: Any, device: torch.device, isolation: Isolation | str) -> Iterator[LossOf]:
    """The `LossOf` of a transformers model, as long as the context lasts. Leaves no trace in the model or any generator.

    Args:
        device: the model's, to which micro-batches are moved.
        isolation: of the plan.
    """

    def loss_of(part: dict[str, Any]) -> float:
        inputs = model_inputs({name: part[name].to(device) for name in BY_TOKEN if name in part}, isolation, device)
        labels, weights = inputs.pop("labels"), inputs.pop("weights", None)
        logits = model(**inputs, use_cache=False).logits  # (rows, tokens, vocabulary) in the compute dtype
        return float(loss_sum(logits, labels, weights).double())

    with random_state.preserved(), evaluating(model), torch.no_grad():
        yield loss_of
