"""Packed rows as tensors, and the order they are trained in.

A row holds whole documents. Labels of a document's first token are -100: the token before it belongs to another document.
`position_ids` begin again at each document, which is how attention keeps them apart (see `attention`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from pipeline.dataset.loss_weights import LossWeights
from pipeline.tokenization.messages import NOT_TRAINED

BY_TOKEN = ("input_ids", "labels", "position_ids", "weights")
"""What of a micro-batch has a number for each token, (rows, tokens); `weights` is there where the documents have some."""


class Document(NamedTuple):
    """A document's tokens, (tokens,) each.

    Attributes:
        weights: float32, what the loss of each label is multiplied by; None for ones.
    """

    ids: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]
    weights: NDArray[np.float32] | None = None


PackedRow = list[Document]


class Documents(Protocol):
    """What is needed of a `datasets.Dataset` with the columns `input_ids` and `labels`: its Arrow table."""

    @property
    def data(self) -> Any: ...


class PackedRows(Dataset[PackedRow]):
    """Rows of documents, as views of the memory-mapped table: nothing is read before it is used.

    Args:
        rows: for each row the numbers of its documents, (documents in it,), as `dataset.packing.pack` gives them.
        weights: of the documents' labels in the loss; None where all weigh one.
    """

    def __init__(self, documents: Documents, rows: Sequence[NDArray[np.int64]], weights: LossWeights | None = None) -> None:
        self._ids, self._labels = (_ListColumn(documents.data.column(name)) for name in ("input_ids", "labels"))
        self._rows, self._weights = rows, weights

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> PackedRow:
        return [self._document(number) for number in self._rows[index].tolist()]

    def _document(self, number: int) -> Document:
        ids = self._ids[number]
        return Document(ids, self._labels[number], self._weights.of(number, len(ids)) if self._weights else None)


class _ListColumn:
    """A column of lists of integers as numpy arrays, without copying or turning each number into a Python object."""

    def __init__(self, column: Any) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, chunks)]).tolist()  # number of each chunk's first list, and of all lists
        # Arrow's list layout: list i of a chunk is values[offsets[i] : offsets[i + 1]].
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]  # (lists + 1,) int32 each
        self._values = [chunk.values.to_numpy() for chunk in chunks]  # (numbers of all lists,) each

    def __getitem__(self, index: int) -> NDArray[np.integer[Any]]:
        chunk = bisect_right(self._starts, index) - 1
        offsets, place = self._offsets[chunk], index - self._starts[chunk]
        found: NDArray[np.integer[Any]] = self._values[chunk][offsets[place] : offsets[place + 1]]
        return found


def collate(rows: Sequence[PackedRow]) -> dict[str, Any]:
    """One micro-batch, as wide as its longest row.

    Returns:
        `input_ids`, `labels`, `position_ids`: (rows, tokens) int64; where documents have weights also `weights`, (rows, tokens)
        float32, 0 where there is no label; `real_tokens`: how many are not padding, `trained_tokens` how many have a label. No
        attention mask.
    """
    width = max(sum(len(document.ids) for document in row) for row in rows)
    shape = (len(rows), width)
    # Padding is a document of its own at the end of the row: it sees itself only, nothing sees it, and no id is special for it.
    ids, labels = np.zeros(shape, np.int64), np.full(shape, NOT_TRAINED, np.int64)
    positions = np.zeros(shape, np.int64)
    weighted = any(document.weights is not None for row in rows for document in row)
    weights = np.zeros(shape, np.float32) if weighted else None
    real = 0  # tokens that are not padding
    for number, row in enumerate(rows):
        start = 0
        for document in row:
            end = start + len(document.ids)
            ids[number, start:end], labels[number, start:end] = document.ids, document.labels
            if weights is not None:
                weights[number, start:end] = 1 if document.weights is None else document.weights
            labels[number, start] = NOT_TRAINED  # it would be predicted from the document before
            positions[number, start:end] = np.arange(end - start)
            start = end
        positions[number, start:] = np.arange(width - start)
        real += start
    tensors: dict[str, NDArray[Any]] = {"input_ids": ids, "labels": labels, "position_ids": positions}
    if weights is not None:
        weights[labels == NOT_TRAINED] = 0
        tensors["weights"] = weights
    # Counted here: on a GPU, counting would wait for everything that was asked of it before.
    counts = {"real_tokens": real, "trained_tokens": int((labels != NOT_TRAINED).sum())}
    return {name: torch.from_numpy(array) for name, array in tensors.items()} | counts


class EpochSampler(Sampler[int]):
    """Row numbers in an order that follows from the seed and the epoch alone, so that a resume in any epoch finds it again.

    Args:
        rows: how many there are; each comes once an epoch.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows, self._seed, self._epoch = rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch, from 0, whose order the next iteration gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self._seed, self._epoch]).permutation(self._rows).tolist())
