"""Which conversations are trained on and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import SplitSection


def assign(digests: Sequence[bytes], shares: SplitSection, seed: int) -> NDArray[np.int8]:
    """For each conversation 0 (train), 1 (val) or 2 (test).

    It follows from the seed and from what the conversations say, not from their order in the file: a file that was sorted
    anew is split the same way.

    Args:
        digests: one a conversation, each different.
    """
    key = seed.to_bytes(8, "little")
    drawn = [hashlib.blake2b(each, digest_size=8, key=key).digest() for each in digests]
    order = np.argsort(np.frombuffer(b"".join(drawn), dtype=">u8"), kind="stable")
    val, test = held_out(len(digests), shares)
    result = np.zeros(len(digests), dtype=np.int8)
    result[order[:val]] = 1
    result[order[val : val + test]] = 2
    return result


def held_out(rows: int, shares: SplitSection) -> tuple[int, int]:
    """How many rows go to val and to test.

    A split that has a share gets at least one row where there are enough: train comes first, then val, then test.
    """
    val = max(1, round(rows * shares.val)) if shares.val else 0
    test = max(1, round(rows * shares.test)) if shares.test else 0
    test = max(0, min(test, rows - 1 - val))
    val = max(0, min(val, rows - 1))
    return val, test
