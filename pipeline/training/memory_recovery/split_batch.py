"""Parts of a micro-batch: its rows, then the documents of a row. Their losses and gradients add up to those of the whole.

Both forms of a collated micro-batch are known: (rows, tokens) of `packed_rows.collate`, and one row of documents with their
offsets, (1, tokens), of `varlen.as_one_sequence`. A cut is made where a document begins, so no token loses what it attends to.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.training.loss import trained_tokens
from pipeline.training.packed_rows import BY_TOKEN

Batch = dict[str, Any]


def tokens_of(batch: Batch) -> int:
    """Tokens of a forward pass, padding included."""
    return int(batch["input_ids"].numel())


def halves(batch: Batch) -> list[Batch]:
    """The two halves of a micro-batch, of its form; one where the other holds no trained token; none where it is one document."""
    rows = len(batch["input_ids"])
    parts = _between(batch, 0, rows // 2) if rows > 1 else _at_a_document(batch)
    parts = [part for part in parts if trained_tokens(part["labels"])]
    if "cu_seq_lens_q" not in batch:
        return parts
    from pipeline.training import varlen

    return [varlen.as_one_sequence(part) for part in parts]


def _at_a_document(batch: Batch) -> list[Batch]:
    """Cut the one row at the document start nearest its middle. Padding is a document too, without trained tokens."""
    positions = batch["position_ids"][0]  # (tokens,)
    starts = torch.nonzero(positions == 0).flatten()[1:]  # (documents - 1,): of all but the first
    if not len(starts):
        return []
    return _between(batch, 1, int(min(starts.tolist(), key=lambda start: abs(2 * start - len(positions)))))


def _between(batch: Batch, dimension: int, cut: int) -> list[Batch]:
    size = batch["input_ids"].shape[dimension]
    return [
        batch | {name: batch[name].narrow(dimension, start, end - start) for name in BY_TOKEN if name in batch}
        for start, end in ((0, cut), (cut, size))
    ]
