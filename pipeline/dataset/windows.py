"""Cutting a conversation that is longer than a row into overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.tokenization.messages import NOT_TRAINED

Tokens = NDArray[np.int32]


def windows(ids: Tokens, labels: Tokens, longest: int, overlap: int) -> Iterator[tuple[int, Tokens, Tokens]]:
    """Of each piece of at most `longest` tokens where it begins, its ids and labels; each but the first begins with the last
    `overlap` tokens of the one before.

    What is repeated has no label, so every label stands in exactly one window. At least one token is repeated: a model
    predicts nothing for the first token of a row, so a label there would be lost.
    """
    overlap = max(1, overlap)
    begin = 0
    while True:
        end = min(begin + longest, len(ids))
        piece = labels[begin:end].copy()
        piece[: overlap if begin else 0] = NOT_TRAINED
        yield begin, ids[begin:end], piece
        if end == len(ids):
            return
        begin = end - overlap
