"""Conversations that belong together, so that no group of them is trained on and held out at once.

What begins with the same question or nearly the same, says that it comes from the same conversation or document, or is nearly the
same answer. Where more than a fifth of the rows are so alike, that is no sign of a copy but the task itself (one instruction for
every row): they are told apart by what follows, and that is said. So are more than a few questions that are nearly the same: they
are written after one pattern. Windows of one conversation need no grouping: they are never divided.

Held in memory are the sketches (`near_duplicates`) and a number a turn: about 200 MB for a million conversations.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.cleaning import WHOLE, beginning
from pipeline.dataset.near_duplicates import FEWEST_CHARACTERS, Pairs, Sketches, Tokens
from pipeline.tokenization.messages import Conversation

if TYPE_CHECKING:
    from pipeline.tokenization.label_spans import Document

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
QUESTION, ASKED = "the same first question", "nearly the same first question"
ORIGIN, NEAR = "parts of one conversation or document", "nearly the same answers"
# The largest share of all rows that a group may have, and how many it may have anyway.
_LARGEST, _SMALL = 5, 10
_MOST_ALIKE = 10  # questions that are nearly the same, each as often as it comes; of more the pattern is the task
_NEARLY_ALL = 0.9  # of the bins: copies, among answers that are all written after one pattern


@dataclass(frozen=True)
class Groups:
    """Which conversations belong together.

    Attributes:
        of: of each conversation the number of its group; most are alone in theirs.
        by: why -> conversations that share a group for that reason.
        too_large: why -> conversations that would have shared one with more than a fifth of all, or too many questions.
        stages: why -> the groups as they were once that was looked at; each holds those before it.
    """

    of: Numbers
    by: dict[str, int] = field(default_factory=dict)
    too_large: dict[str, int] = field(default_factory=dict)
    stages: dict[str, Numbers] = field(default_factory=dict)


def by_question(names: Sequence[bytes]) -> Groups:
    """By the first questions alone, which the names tell (`cleaning.digest`)."""
    of, too_large = _told_apart(_questions(names), most_of(len(names)), names, _at_once)
    return Groups(of, _counted({QUESTION: _together(of)}), _counted({QUESTION: too_large}))


def most_of(count: int) -> int:
    """Conversations that a group may have."""
    return min((count + 1) // 2, max(_SMALL, count // _LARGEST))


def trained_stretches(documents: Iterable[Document]) -> Iterator[Tokens]:
    """The tokens of a conversation that are trained."""
    return (document.ids[begin:end] for document in documents for begin, end in document.spans)


class Grouping:
    """Takes conversations as they come, and groups them when all are there."""

    def __init__(self) -> None:
        self._origins = array("q")
        self._turns = array("q")  # of each turn, what was said up to there
        self._turn_counts = array("l")
        self._sketches = Sketches()
        self._questions = Sketches(FEWEST_CHARACTERS)

    def add(self, conversation: Conversation, origin: str, trained: Iterable[Tokens], question: str | None = None) -> None:
        """The next one. Numbers of `hash` are compared within this process only.

        Args:
            origin: as `origin.origin_of` gives it.
            trained: stretches of tokens that are trained.
            question: the conversation's `cleaning.beginning`, where that is known already.
        """
        self._sketches.add(len(self._origins), trained)
        if not conversation.text:
            asked = beginning(conversation) if question is None else question
            self._questions.add(len(self._origins), (np.frombuffer(asked.encode("utf-32-le", "surrogatepass"), dtype=np.uint32),))
        self._origins.append(hash(origin) or 1 if origin else 0)
        before, said = len(self._turns), 0
        for message in conversation.messages:
            if said or message["role"] == "user":
                said = hash((said, message["content"])) or 1
                self._turns.append(said)
        self._turn_counts.append(len(self._turns) - before)

    def groups(self, names: Sequence[bytes]) -> Groups:
        """Of all that came.

        Args:
            names: of each, as `cleaning.digest` gives them; the same one twice is the same conversation.
        """
        most = most_of(len(names))
        rank = rank_of(names)
        same, many_same = _told_apart(_questions(names), most, names, self._said)
        asked, many_asked = _joined_near(same, self._questions.pairs(rank), most, _MOST_ALIKE)
        joined, many_joined = _joined(asked, *self._same_origin(), most)
        of, many_near = _joined_near(joined, self._sketches.pairs(rank), most)
        by = {QUESTION: _together(same), ASKED: _grown(same, asked), ORIGIN: _grown(asked, joined), NEAR: _grown(joined, of)}
        too_large = {QUESTION: many_same, ASKED: many_asked, ORIGIN: many_joined, NEAR: many_near}
        stages = {QUESTION: same, ASKED: asked, ORIGIN: joined, NEAR: of}
        return Groups(of, _counted(by), _counted(too_large), stages)

    def _same_origin(self) -> tuple[Numbers, Numbers]:
        """Pairs that say they come from the same, each with the next one."""
        origins = np.array(self._origins, dtype=np.int64)
        order = np.argsort(origins, kind="stable")
        same = np.flatnonzero((origins[order[1:]] == origins[order[:-1]]) & (origins[order[1:]] != 0))
        return order[same], order[same + 1]

    def _said(self, rows: Numbers, turn: int) -> tuple[Numbers, Mask]:
        """Of each row what was said up to a turn, the first question being turn 0; and whether it has ended by then."""
        counts = np.array(self._turn_counts, dtype=np.int64)
        begins = (np.cumsum(counts) - counts)[rows]
        ended = counts[rows] <= turn
        turns = np.array(self._turns, dtype=np.int64) if len(self._turns) else np.zeros(1, dtype=np.int64)
        return turns[np.where(ended, 0, begins + turn)], ended


def _at_once(rows: Numbers, _turn: int) -> tuple[Numbers, Mask]:
    """Where nothing is known of the turns: what is not the same question is told apart by all of it."""
    return rows, np.ones(len(rows), dtype=bool)


def _words(names: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(names), dtype=">u8").reshape(len(names), -1).astype(np.uint64)


def rank_of(names: Sequence[bytes]) -> Numbers:
    """Of each name its place among all, which does not follow from the order of the file."""
    words = _words(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.lexsort((words[:, 1], words[:, 0]))] = np.arange(len(names))
    return rank


def _questions(names: Sequence[bytes]) -> NDArray[np.uint64]:
    return _words(names)[:, WHOLE // 8]


def _told_apart(
    questions: NDArray[np.uint64], most: int, names: Sequence[bytes], said: Callable[[Numbers, int], tuple[Numbers, Mask]]
) -> tuple[Numbers, Mask]:
    """Groups of the same question; one of more than `most` by the answer to it too, by the next question, and so on.

    Returns:
        of each conversation its group, and whether the first question alone did not do.
    """
    of = _numbered(questions)
    large = np.bincount(of, minlength=1)[of] > most
    left, turn = large.copy(), 1
    while left.any():
        rows = np.flatnonzero(left)
        key, ended = said(rows, turn)
        whole = np.array([int.from_bytes(names[row][:8], "little", signed=True) for row in rows[ended]], dtype=np.int64)
        key = key.copy()
        key[ended] = whole
        of[rows] = of.max() + 1 + _numbered(of[rows], ended.astype(np.int64), key)
        left[rows[ended]] = False
        left &= np.bincount(of)[of] > most
        turn += 1
    return of, large


def _joined_near(of: Numbers, near: Pairs, most: int, most_groups: int | None = None) -> tuple[Numbers, Mask]:
    """As `_joined`; where too many would come together, those that are copies but for a word."""
    joined, many = _joined(of, near.first, near.second, most, most_groups)
    nearly_all = (near.share >= _NEARLY_ALL) & many[near.first] & many[near.second]
    return _joined(joined, near.first[nearly_all], near.second[nearly_all], most, most_groups)[0], many


def _joined(of: Numbers, first: Numbers, second: Numbers, most: int, most_groups: int | None = None) -> tuple[Numbers, Mask]:
    """The groups with those joined of which two conversations are a pair, but where more than `most` conversations or
    `most_groups` groups would come together.

    Returns:
        of each conversation its group, and whether that was so.
    """
    of = _numbered(of)
    together = _components(int(of.max(initial=-1)) + 1, of[first], of[second])
    joined = together[of]
    sizes = np.bincount(of, minlength=1)[of], np.bincount(joined, minlength=1)[joined]
    large = (sizes[1] > most) & (sizes[1] > sizes[0])
    if most_groups is not None and len(of):
        large |= np.bincount(together)[joined] > most_groups
    return np.where(large, joined.max(initial=0) + 1 + of, joined), large


def _components(count: int, first: Numbers, second: Numbers) -> Numbers:
    """Of each of `count` nodes the least one that it hangs together with, by edges."""
    least = np.arange(count)
    while (least[first] != least[second]).any():
        low = np.minimum(least[first], least[second])
        np.minimum.at(least, least[first], low)
        np.minimum.at(least, least[second], low)
        while (least[least] != least).any():
            least = least[least]
    return least


def _numbered(*columns: NDArray[Any]) -> Numbers:
    """Numbers from 0 that two places share where all their columns are equal."""
    order = np.lexsort(columns)
    new = np.zeros(len(order), dtype=np.int64)
    for column in columns:
        new[1:] |= column[order[1:]] != column[order[:-1]]
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def _together(of: Numbers) -> Mask:
    """Whether each is in a group with another."""
    return np.bincount(of, minlength=1)[of] > 1


def _grown(before: Numbers, after: Numbers) -> Mask:
    return np.bincount(after, minlength=1)[after] > np.bincount(before, minlength=1)[before]


def _counted(why: dict[str, Mask]) -> dict[str, int]:
    return {reason: int(rows.sum()) for reason, rows in why.items() if rows.any()}
