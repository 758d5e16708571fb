"""Which conversations are trained on and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.common.text import counted
from pipeline.config.schema import Config, SplitSection
from pipeline.dataset.cleaning import WHOLE
from pipeline.dataset.grouping import ASKED, NEAR, ORIGIN, QUESTION, Groups, Numbers, by_question, rank_of
from pipeline.dataset.leaks import LEFT_OUT, Leaks, found_in
from pipeline.dataset.reason_counts import counted_rows

Splits = NDArray[np.int8]
_TOO_LARGE = {
    QUESTION: "begin with a question that more than a fifth of all begin with: too many to be held out together, they are told"
    " apart by what follows it, and held-out rows begin as trained ones do",
    ASKED: "begin with nearly the same question as many others, as rows that are written after one pattern do: only those with"
    " the same question are held out together",
    ORIGIN: "say that they come from the same conversation or document as more than a fifth of all: too many to be held out"
    " together, they are divided one by one",
    NEAR: "have nearly the same answer as more than a fifth of all, as rows that are written after one pattern have: only copies"
    " are held out together",
}
_MOST_OVER = 1.5  # of a split's share, before a group that came to it is trained after all


@dataclass(frozen=True)
class Grouped:
    """What became of rows that belong together, for the report.

    Attributes:
        groups: of more than one row, with `rows` in them.
        by: why they are in one -> rows.
        moved: rows that are in another split than they were drawn for, so that no group is in two.
        too_large: why -> rows that are too many to be held out together, and are told apart by more.
    """

    groups: int = 0
    rows: int = 0
    by: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    too_large: dict[str, int] = field(default_factory=dict)

    def in_words(self) -> list[str]:
        """A line each for what was grouped, what moved, and what is too large; nothing for nothing."""
        lines = []
        if self.groups:
            reasons = ", ".join(f"{counted(rows)} {why}" for why, rows in self.by.items())
            lines.append(f"{counted(self.rows)} rows in groups that are never divided, {counted(self.groups)} groups: {reasons}")
        if self.moved:
            lines.append(f"{counted(self.moved)} of them moved, so that no group is trained and held out at once")
        return lines + self.doubts()

    def doubts(self) -> list[str]:
        """A line each for what could not be kept together."""
        return [f"{counted_rows(rows)} {_TOO_LARGE[why]}" for why, rows in self.too_large.items()]


class Divided(NamedTuple):
    """What became of conversations.

    Attributes:
        split_of: of each, as `assign` gives it; `LEFT_OUT` for what belongs to held-out rows of a person's own.
        leaks: those.
    """

    split_of: Splits
    grouped: Grouped
    leaks: Leaks


def divided(
    names: Sequence[bytes],
    groups: Groups,
    config: Config,
    source_of: Numbers | None = None,
    own: Splits | None = None,
) -> Divided:
    """The split of each conversation, and what is to be told of it.

    Args:
        own: of each the split that a person named its file for, 1 (val) or 2 (test); 0 where it is to be divided.
    """
    own = np.zeros(len(names), dtype=np.int8) if own is None else own
    leaks = found_in(names, groups, own)
    split_of = np.where(leaks.rows, LEFT_OUT, own).astype(np.int8)
    free = np.flatnonzero(split_of == 0)
    of_free, sources = [names[row] for row in free.tolist()], None if source_of is None else source_of[free]
    moved = 0
    if of_free:
        split_of[free] = assign(of_free, config.data.shares, config.seed, groups.of[free], sources)
        drawn, _, _ = draw_each(of_free, config.data.shares, config.seed, sources)
        moved = int((split_of[free] != drawn).sum())
    sizes = np.bincount(groups.of)
    shared = sizes[sizes > 1]
    return Divided(split_of, Grouped(len(shared), int(shared.sum()), groups.by, moved, groups.too_large), leaks)


def assign(
    names: Sequence[bytes],
    shares: SplitSection,
    seed: int,
    groups: Numbers | None = None,
    source_of: Numbers | None = None,
) -> Splits:
    """For each conversation 0 (train), 1 (val) or 2 (test).

    It follows from the seed and from what the conversations say, not from their order in the file: a file that was sorted
    anew is split the same way. Each is drawn by itself (`draw`); then groups that came apart are brought together.

    Args:
        names: one a conversation, each different, as `cleaning.digest` gives them.
        groups: of each the number of its group, as `grouping` finds them; by the first question where there is none.
        source_of: the source of each, where there are several: each is drawn by itself, so that each is held out.
    """
    drawn, when, wanted = draw_each(names, shares, seed, source_of)
    groups = by_question(names).of if groups is None else groups
    return brought_together(drawn, when, groups, rank_of(names), wanted)


def draw_each(
    names: Sequence[bytes], shares: SplitSection, seed: int, source_of: Numbers | None
) -> tuple[Splits, Numbers, tuple[int, int]]:
    """`draw` of each source, and how many conversations val and test should have."""
    if source_of is None:
        return *draw(names, shares, seed), held_out(len(names), shares)
    drawn, when = np.zeros(len(names), dtype=np.int8), np.zeros(len(names), dtype=np.int64)
    val = test = 0
    for source in np.unique(source_of):
        mine = np.flatnonzero(source_of == source)
        drawn[mine], when[mine] = draw([names[row] for row in mine.tolist()], shares, seed)
        wanted = held_out(len(mine), shares)
        val, test = val + wanted[0], test + wanted[1]
    return drawn, when, (val, test)


def draw(names: Sequence[bytes], shares: SplitSection, seed: int) -> tuple[Splits, Numbers]:
    """Of each conversation the split that it is drawn for by itself, and when it was drawn."""
    key = seed.to_bytes(8, "little")
    drawn = [hashlib.blake2b(each[:WHOLE], digest_size=8, key=key).digest() for each in names]
    order = np.argsort(np.frombuffer(b"".join(drawn), dtype=">u8"), kind="stable")
    val, test = held_out(len(names), shares)
    result = np.zeros(len(names), dtype=np.int8)
    result[order[:val]] = 1
    result[order[val : val + test]] = 2
    when = np.empty(len(names), dtype=np.int64)
    when[order] = np.arange(len(names))
    return result, when


def brought_together(drawn: Splits, when: Numbers, groups: Numbers, rank: Numbers, wanted: tuple[int, int]) -> Splits:
    """The draw, with each group in one split. Where none came apart it is the draw as it was.

    A group goes where the first of its conversations was drawn for, by their names: groups of any size are held out as often as
    a conversation is. One that is larger than the whole of val or test is trained, and so are the largest of those that would
    make it half as large again; where little is left of val or test, the smallest of train go there.

    Args:
        when: each was drawn.
        rank: of each among all names.
        wanted: conversations that val and test should have.
    """
    _, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    first = np.empty(len(sizes), dtype=np.int64)
    by_rank = np.argsort(-rank, kind="stable")
    first[of[by_rank]] = by_rank  # the last that is written stays
    split = drawn[first]
    if (split[of] == drawn).all():
        return drawn
    for number, most in zip((1, 2), wanted, strict=True):
        _shrink(split, sizes, when[first], number, most)
    for number, least in zip((1, 2), wanted, strict=True):
        _fill(split, sizes, when[first], number, least)
    return split[of]


def _shrink(split: Splits, sizes: Numbers, when: Numbers, number: int, wanted: int) -> None:
    """Leave to train, in place, groups that are too much for a split."""
    split[(split == number) & (sizes > max(1, wanted))] = 0
    here = int(sizes[split == number].sum())
    if here <= _MOST_OVER * wanted:
        return
    groups = np.flatnonzero((split == number) & (sizes > 1))
    for group in groups[np.lexsort((-when[groups], -sizes[groups]))]:
        if here - sizes[group] >= wanted:
            split[group] = 0
            here -= int(sizes[group])


def _fill(split: Splits, sizes: Numbers, when: Numbers, number: int, wanted: int) -> None:
    """Take from train, in place, where a split has less than half of what it should have."""
    here, left = (int(sizes[split == each].sum()) for each in (number, 0))
    if 2 * here >= wanted:
        return
    groups = np.flatnonzero(split == 0)
    for group in groups[np.lexsort((when[groups], sizes[groups]))]:
        size = int(sizes[group])
        if here >= wanted or (here and here + size > wanted) or left == size:
            return
        split[group] = number
        here, left = here + size, left - size


def held_out(rows: int, shares: SplitSection) -> tuple[int, int]:
    """How many rows go to val and to test.

    A split that has a share gets at least one row where there are enough: train comes first, then val, then test.
    """
    val = max(1, round(rows * shares.val)) if shares.val else 0
    test = max(1, round(rows * shares.test)) if shares.test else 0
    test = max(0, min(test, rows - 1 - val))
    val = max(0, min(val, rows - 1))
    return val, test
