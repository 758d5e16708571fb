"""Conversations of which nearly the same is trained or asked: MinHash over five tokens or characters in turn, and
locality-sensitive hashing.

One hash a shingle, not one for each place of the sketch: a shingle falls into one of 64 bins and each bin keeps its least (Li,
Owen and Zhang, *One permutation hashing*, NIPS 2012); an empty bin takes what the next one holds (Shrivastava and Li, *Densifying
one permutation hashing*, UAI 2014). Of each least value eight bits are kept (Li and König, *b-bit minwise hashing*, WWW 2010): 64
bytes a conversation, whatever its length. Two that agree in four bins in a row somewhere are compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5  # tokens, or characters
# Of fewer, one other word already makes another answer, and short ones (a label, a refusal) are alike because they are right.
FEWEST_TOKENS = 32
# The same of a question: "What is the capital of France?" is not nearly "What is the capital of Spain?".
FEWEST_CHARACTERS = 48
ALIKE = 0.75  # bins that agree: about the share of shingles that two have in common, of all that either has
_BINS = 64
_BAND = 4  # bins
_BATCH_TOKENS = 1 << 16
_EMPTY = np.uint32(0xFFFFFFFF)
_VALUE_BITS = 26  # of a hash of 32; those above say into which bin it falls
_ODD = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35))
_FARTHER = np.uint32(1 << _VALUE_BITS)  # added for each bin that a value comes from farther away

Tokens = NDArray[np.int32] | NDArray[np.uint32]


class Pairs(NamedTuple):
    """Conversations that are nearly the same, parallel columns: the numbers of the two, and the share of bins that agree."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]


class Sketches:
    """Sketches of conversations, in the order in which they come.

    Args:
        fewest: tokens of what is sketched at all; `SHINGLE` or more.
    """

    def __init__(self, fewest: int = FEWEST_TOKENS) -> None:
        self._fewest = fewest
        self._numbers = array("q")
        self._sketches = bytearray()
        self._waiting: list[tuple[int, list[Tokens]]] = []
        self._tokens = 0

    def add(self, number: int, trained: Iterable[Tokens]) -> None:
        """The trained tokens of conversation `number`, in stretches."""
        stretches = list(trained)
        tokens = sum(each.size for each in stretches)
        if tokens < self._fewest:
            return
        self._waiting.append((number, stretches))
        self._tokens += tokens
        if self._tokens >= _BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._numbers.extend(number for number, _ in self._waiting)
            self._sketches += sketches([stretches for _, stretches in self._waiting]).tobytes()
        self._waiting, self._tokens = [], 0

    def pairs(self, rank: NDArray[np.int64]) -> Pairs:
        """Those that are nearly the same; of more than two that are, each with some of the others.

        Args:
            rank: of each conversation, a number that does not follow from the order of the file.
        """
        self._flush()
        numbers = np.array(self._numbers, dtype=np.int64)
        bins = np.frombuffer(self._sketches, dtype=np.uint8).reshape(-1, _BINS)
        order = np.argsort(rank[numbers], kind="stable")
        bands = bins.view(np.uint32)
        found = np.zeros((0, 2), dtype=np.int64)
        for band in range(bands.shape[1]):
            found = np.unique(np.concatenate([found, _meetings(bands[order, band], order)]), axis=0)
        share = _agreement(bins, found)
        found, share = found[share >= ALIKE], share[share >= ALIKE]
        return Pairs(numbers[found[:, 0]], numbers[found[:, 1]], share)


def sketches(conversations: Sequence[Sequence[Tokens]]) -> NDArray[np.uint8]:
    """(conversations, 64); each has `SHINGLE` tokens or more."""
    lengths = np.array([sum(each.size for each in stretches) for stretches in conversations])
    ids = np.concatenate([each for stretches in conversations for each in stretches]).astype(np.uint32)
    ids += np.uint32(1)
    last = ids.size - SHINGLE + 1
    hashes = np.zeros(last, dtype=np.uint32)
    for place in range(SHINGLE):
        hashes += ids[place : place + last]
        hashes *= _ODD[0]
    _mix(hashes)
    bins = np.repeat(np.arange(len(lengths)) * _BINS, lengths)[:last]
    bins += hashes >> _VALUE_BITS
    across = np.cumsum(lengths)[:-1, np.newaxis] - np.arange(1, SHINGLE)  # shingles that end in the next conversation
    bins[across] = len(lengths) * _BINS
    least = np.full(len(lengths) * _BINS + 1, _EMPTY, dtype=np.uint32)
    np.minimum.at(least, bins, hashes & np.uint32((1 << _VALUE_BITS) - 1))
    return _dense(least[:-1].reshape(-1, _BINS))


def _mix(hashes: NDArray[np.uint32]) -> None:
    """MurmurHash3's last steps, in place: every bit of the outcome depends on every bit of the value."""
    for shift, odd in ((16, _ODD[1]), (13, _ODD[2]), (16, np.uint32(1))):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= odd


def _dense(least: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Eight bits a bin; an empty one takes those of the next that is not, changed by how far it is away."""
    some = np.flatnonzero((least == _EMPTY).any(axis=1))
    filled, far = least[some], 1
    while far < _BINS:
        others = np.roll(filled, -far, axis=1)
        others = np.where(others == _EMPTY, others, others + np.uint32(far) * _FARTHER)
        filled = np.where(filled == _EMPTY, others, filled)
        far *= 2
    least[some] = filled
    return ((least * _ODD[0]) >> np.uint32(24)).astype(np.uint8)


def _meetings(keys: NDArray[np.uint32], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs with the same key, as (n, 2): each with the one before it, and with the first, where both are in `order`."""
    sorted_ = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[sorted_[1:]] == keys[sorted_[:-1]]) + 1
    begins = np.concatenate([[0], np.flatnonzero(keys[sorted_[1:]] != keys[sorted_[:-1]]) + 1])
    first = begins[np.searchsorted(begins, same, side="right") - 1]
    here = order[sorted_]
    pairs = np.concatenate([np.stack([here[same - 1], here[same]], 1), np.stack([here[first], here[same]], 1)])
    return np.sort(pairs, axis=1)


def _agreement(bins: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    share = np.zeros(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 1 << 16):  # 4 MiB of bins on each side
        some = pairs[start : start + (1 << 16)]
        share[start : start + len(some)] = (bins[some[:, 0]] == bins[some[:, 1]]).mean(axis=1)
    return share
