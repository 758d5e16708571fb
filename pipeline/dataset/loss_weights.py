"""What trained tokens weigh in the loss, where the rows of a file say so.

Kept are the stretches of documents that weigh something else than one, which most files have none of: `train.loss_weights.npy`
beside the documents, and no such file where all weigh one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Stretch = tuple[int, int, float]
"""Begin and end, in tokens of a document, and weight."""

_COLUMNS = np.dtype([("document", "<i4"), ("begin", "<i4"), ("end", "<i4"), ("weight", "<f8")])


def stretches(spans: Sequence[tuple[int, int]], weights: Sequence[float]) -> tuple[Stretch, ...]:
    """Of a document's trained spans those that weigh something else than one."""
    return tuple((*span, weight) for span, weight in zip(spans, weights, strict=True) if weight != 1)


def within(some: Sequence[Stretch], begin: int, trained_from: int, end: int) -> Iterator[Stretch]:
    """The parts of stretches that are trained in a window of their document, by its own tokens.

    Args:
        begin, end: of the window.
        trained_from: before this one it repeats what the window before trained.
    """
    for first, last, weight in some:
        first, last = max(first, trained_from), min(last, end)
        if first < last:
            yield first - begin, last - begin, weight


@dataclass
class Collected:
    """The stretches of documents, as they come."""

    _documents: array[int] = field(default_factory=lambda: array("l"))
    _begins: array[int] = field(default_factory=lambda: array("l"))
    _ends: array[int] = field(default_factory=lambda: array("l"))
    _weights: array[float] = field(default_factory=lambda: array("d"))

    def add(self, document: int, some: Sequence[Stretch]) -> None:
        for begin, end, weight in some:
            self._documents.append(document)
            self._begins.append(begin)
            self._ends.append(end)
            self._weights.append(weight)

    def write(self, path: Path, mine: NDArray[np.int64]) -> None:
        """Write those of the documents `mine`, numbered as they stand there; nothing where none has any.

        Args:
            mine: numbers of documents, in the order in which they are written; one that is written more than once comes as often.
        """
        documents = np.array(self._documents, dtype=np.int64)
        chosen = np.flatnonzero(np.isin(documents, mine))
        if not chosen.size:
            return
        by_number = np.argsort(mine, kind="stable")
        first, last = (np.searchsorted(mine, documents[chosen], side=side, sorter=by_number) for side in ("left", "right"))
        often = last - first
        # Of a stretch its places one after the other: the first, and so many behind it.
        behind = np.arange(often.sum()) - np.repeat(np.cumsum(often) - often, often)
        table = np.zeros(int(often.sum()), dtype=_COLUMNS)
        table["document"] = by_number[np.repeat(first, often) + behind]
        for name, column in (("begin", self._begins), ("end", self._ends), ("weight", self._weights)):
            table[name] = np.array(column)[np.repeat(chosen, often)]
        np.save(path, table[np.argsort(table["document"], kind="stable")])


class LossWeights:
    """Of the documents of a split, each relative to the mean of the split.

    So a token of weight 2 pulls twice as hard as one of weight 1, in the same optimizer step or in another, and learning rate,
    gradient clipping and the loss that is shown mean what they mean without weights. Divided by the sum of a step's own weights,
    a step that holds a single conversation would not know what that weighs.

    Args:
        path: of the file.
        trained: tokens of the split that have a label.
    """

    def __init__(self, path: Path, trained: int) -> None:
        self._table = np.load(path, allow_pickle=False)
        more = (self._table["end"] - self._table["begin"]) * (self._table["weight"] - 1)
        self.mean = float(1 + more.sum() / trained)

    @cached_property
    def _documents(self) -> NDArray[np.int32]:
        return np.ascontiguousarray(self._table["document"])

    def of(self, document: int, tokens: int) -> NDArray[np.float32]:
        """(tokens,) float32: of each token of a document, whether it has a label or not."""
        weights = np.full(tokens, 1 / self.mean, dtype=np.float32)
        first, last = np.searchsorted(self._documents, (document, document + 1))
        for _, begin, end, weight in self._table[first:last].tolist():
            weights[begin:end] = weight / self.mean
        return weights
