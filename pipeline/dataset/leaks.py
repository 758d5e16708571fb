"""What belongs to held-out rows that a person named themselves, and is therefore left out of what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.cleaning import WHOLE
from pipeline.dataset.grouping import Groups, Mask
from pipeline.dataset.reason_counts import Tally, counted_rows, reasons_in_words

LEFT_OUT = -1  # of a conversation: the split of those that are in none
SAME = "the same conversation"
_BELONGS = {
    "train": "left out of train for the sake of your own held-out rows",
    "val": "left out of val for the sake of data.test_path",
}


@dataclass(frozen=True)
class Leaks:
    """Conversations that are left out.

    Attributes:
        why: reason -> whether each conversation is left out for that reason, which is the first that was found.
        own: of each the split that its file was named for, 1 (val) or 2 (test); 0 where it is divided.
    """

    why: dict[str, Mask]
    own: NDArray[np.int8]

    @property
    def rows(self) -> Mask:
        """Whether each is left out."""
        found = np.zeros(len(self.own), dtype=bool)
        for mask in self.why.values():
            found |= mask
        return found

    def reason_of(self, number: int) -> str:
        """Why one is left out, in words."""
        why = next(reason for reason, mask in self.why.items() if mask[number])
        return f"{why} as of {'rows of data.test_path' if self.own[number] else 'held-out rows of your own'}"

    def to_json(self, numbers: Sequence[int]) -> dict[str, Any]:
        """`{"train": {reason: {"rows": count, "lines": [first row numbers]}}, "val": {…}}`, without what nothing is left out of.

        Args:
            numbers: the row of each.
        """
        found: dict[str, Any] = {}
        for own, split in enumerate(("train", "val")):
            tally = Tally("row")
            for why, mask in self.why.items():
                for at in np.flatnonzero(mask & (self.own == own)).tolist():
                    tally.add(why, numbers[at])
            if tally.total:
                found[split] = tally.to_json()
        return found


def found_in(names: Sequence[bytes], groups: Groups, own: NDArray[np.int8]) -> Leaks:
    """Of the rows that are divided those that belong to a held-out row, and of val's own those that belong to one of test's.

    Args:
        names: as `cleaning.digest` gives them.
        own: as `Leaks.own`.
    """
    left = np.zeros(len(own), dtype=bool)
    why = dict[str, Mask]()
    if not own.any():
        return Leaks(why, own)
    _, same = np.unique(np.array([name[:WHOLE] for name in names], dtype=f"V{WHOLE}"), return_inverse=True)
    for reason, of in {SAME: same, **groups.stages}.items():
        most = np.zeros(int(of.max()) + 1, dtype=np.int8)
        np.maximum.at(most, of, own)
        here = (own < most[of]) & ~left
        if here.any():
            why[reason] = here
            left |= here
    return Leaks(why, own)


def in_words(leaks: Mapping[str, Any]) -> list[str]:
    """A line for each split that something is left out of, its reasons on lines of their own below it, indented.

    Args:
        leaks: as `Leaks.to_json` gives them.
    """
    lines = []
    for split, reasons in leaks.items():
        lines.append(f"{counted_rows(total({split: reasons}))} {_BELONGS[split]}:")
        lines += [f"  {line}" for line in reasons_in_words(reasons, "row")]
    return lines


def total(leaks: Mapping[str, Any]) -> int:
    """Rows that are left out, of what `Leaks.to_json` gives."""
    return sum(each["rows"] for reasons in leaks.values() for each in reasons.values())
