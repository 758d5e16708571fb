"""Many texts to ids, each word of them tokenized once.

The words of a language come again and again, and the tokenizers library works for each of them again. Where `seams` shows that
words can be tokenized one by one, the texts of a batch are taken apart, their different words looked up, and the ids put together
with whole-array operations: several times faster. Words that are not known are tokenized by the library.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.tokenization.word_boundaries import Seams

# Words that are remembered, of at most so many bytes: some 20 MB. Longer ones hardly come again.
_MOST_KNOWN = 1 << 17
_MOST_BYTES = 48
# Stands before each text, so that its first word can't be taken for one in mid-text.
_START = b"\0"
# Stands before a word from mid-text while it is tokenized by itself.
_CONTEXT = "a"

EncodeAll = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class Ids:
    """Of several texts, one after the other.

    Attributes:
        ids: int32, of all texts.
        bounds: where each begins in `ids`, and the end of the last.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    def each(self) -> list[NDArray[np.int32]]:
        """Views, one a text."""
        return [self.ids[begin:end] for begin, end in pairwise(self.bounds.tolist())]

    def places_of(self, some: NDArray[np.bool_]) -> list[list[int]]:
        """For each text where its ids are that `some`, a table by id, says true of."""
        found = np.flatnonzero(some[self.ids])
        ends = np.searchsorted(found, self.bounds)
        inside = (found - np.repeat(self.bounds[:-1], np.diff(ends))).tolist()
        return [inside[begin:end] for begin, end in pairwise(ends.tolist())]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Ids:
        bounds = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(each) for each in lists], out=bounds[1:])
        flat = array("i")
        for each in lists:
            flat.extend(each)
        return cls(np.frombuffer(flat, dtype=np.int32) if flat else np.zeros(0, dtype=np.int32), bounds)


class Words:
    """Several threads may use one.

    Args:
        seams: of the tokenizer.
        markers: what the tokenizer's special tokens are called in texts: all begin with the same characters, which nothing else
            holds, and have as many bytes.
        encode_all: the tokenizer's own way.
    """

    def __init__(self, seams: Seams, markers: Sequence[str], encode_all: EncodeAll) -> None:
        self._seams, self._encode_all = seams, encode_all
        self._known: dict[bytes, bytes] = {}  # ids as int32
        self._marker_bytes = len(markers[0].encode()) if markers else 0
        self._marker_begins = _common_start(markers).encode()
        self._skip = len(encode_all([_CONTEXT])[0])

    def encode_all(self, texts: Sequence[str]) -> Ids:
        """What the tokenizer gives for each of `texts`, which hold no NUL character."""
        if not texts:
            return Ids.of([])
        parts = [_START + text.encode() for text in texts]
        whole = b"".join(parts)
        starts = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=starts[1:])
        begins = self._words(whole, starts[:-1])
        different, which = _different(whole, begins)
        ids, lengths = self._ids(different)
        placed = lengths[which]
        ends = np.cumsum(placed)
        offsets = (np.cumsum(lengths) - lengths)[which] - (ends - placed)
        found = ids.take(np.repeat(offsets, placed) + np.arange(ends[-1]))
        bounds = np.append(ends - placed, ends[-1:])[np.searchsorted(begins, starts)]
        return Ids(found, bounds)

    def _words(self, whole: bytes, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each word begins. A special token and what follows it are one, whatever the tokenizer does between them."""
        begins = np.zeros(len(whole) + self._marker_bytes + 1, dtype=np.bool_)
        begins[self._seams.find(np.frombuffer(whole, dtype=np.uint8))] = True
        markers = self._markers(whole)
        begins[markers + self._marker_bytes] = False
        begins[markers] = True
        begins[starts] = True
        return np.flatnonzero(begins)

    def _markers(self, whole: bytes) -> NDArray[np.int64]:
        found, at = list[int](), whole.find(self._marker_begins) if self._marker_begins else -1
        while at >= 0:
            found.append(at)
            at = whole.find(self._marker_begins, at + self._marker_bytes)
        return np.array(found, dtype=np.int64)

    def _ids(self, words: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Those of all words, one after the other, and how many each has."""
        found = dict(zip(words, map(self._known.get, words), strict=True))
        unknown = [word for word, ids in found.items() if ids is None]
        learned = self._learned(unknown) if unknown else {}
        all_ids = [ids if ids is not None else learned[word] for word, ids in found.items()]
        lengths = np.array([len(ids) for ids in all_ids], dtype=np.int64) // 4
        return np.frombuffer(b"".join(all_ids), dtype=np.int32), lengths

    def _learned(self, unknown: list[bytes]) -> dict[bytes, bytes]:
        """The ids of words that were not known, and now are where there is room."""
        learned = {}
        for word, ids in zip(unknown, self._encode_all([self._alone(word) for word in unknown]), strict=True):
            learned[word] = array("i", ids[0 if self._is_first(word) else self._skip :]).tobytes()
            if len(word) <= _MOST_BYTES and len(self._known) < _MOST_KNOWN:
                self._known[word] = learned[word]
        return learned

    def _is_first(self, word: bytes) -> bool:
        """Of a text, or after a special token, which it then begins with."""
        return word.startswith(_START) or (bool(self._marker_begins) and word.startswith(self._marker_begins))

    def _alone(self, word: bytes) -> str:
        return word.removeprefix(_START).decode() if self._is_first(word) else _CONTEXT + word.decode()


def _different(whole: bytes, begins: NDArray[np.int64]) -> tuple[list[bytes], NDArray[np.int32]]:
    """The different stretches between the places in `begins`, and which of them each is."""
    import pyarrow as pa  # not before it is needed: whoever only asks a model something does without

    offsets = np.append(begins, len(whole)).astype(np.int32)
    stretches = pa.BinaryArray.from_buffers(pa.binary(), len(begins), [None, pa.py_buffer(offsets), pa.py_buffer(whole)])
    encoded = stretches.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _common_start(markers: Sequence[str]) -> str:
    return markers[0][:-2] if markers else ""
