"""Whether a tokenizer gives the text back: what was encoded, decoded again.

What counts is what a reader would miss. Not counted are white space, which many tokenizers trim or collapse, and what the
tokenizer's own normalizer does (lower case, NFKC, accents): it does the same to everything the model ever saw. It is counted in
characters, so that one unknown emoji in a long row is not taken for a row that is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.common.errors import BadInput

MOST_LOST = 0.05
"""The share of characters from which on a data set is refused: one in twenty is gone from everything that is trained."""


@dataclass(frozen=True)
class ReadBack:
    """What became of some texts.

    Attributes:
        texts: looked at.
        changed: of them those that did not come back.
        unknown: of those the ones with a token that stands for whatever the vocabulary lacks.
        characters: of all texts, white space left out.
        lost: of them those that did not come back.
    """

    texts: int = 0
    changed: int = 0
    unknown: int = 0
    characters: int = 0
    lost: int = 0

    def __add__(self, other: ReadBack) -> ReadBack:
        return ReadBack(
            self.texts + other.texts,
            self.changed + other.changed,
            self.unknown + other.unknown,
            self.characters + other.characters,
            self.lost + other.lost,
        )

    @property
    def is_too_much(self) -> bool:
        return self.lost > MOST_LOST * max(1, self.characters)

    def in_words(self, kind: str) -> str:
        """For a report: how much did not come back, and why.

        Args:
            kind: the tokenizer's class.
        """
        share = 100 * self.lost / max(1, self.characters)
        why = "its vocabulary has no tokens for it"
        if not self.unknown:
            why = f"the tokenizer, which transformers reads as {kind}, drops or changes it"
        return f"{self.changed:,} of {self.texts:,} texts, {share:.3g} % of their characters: {why}"


def compared(text: str, decoded: str, normalized: str, unknown: str | None) -> ReadBack:
    """One text with what came back of it.

    Args:
        normalized: what the tokenizer's normalizer makes of the text.
        unknown: what stands in `decoded` for what the vocabulary lacks; None where there is no such token.
    """
    has_unknown = unknown is not None and unknown in decoded
    came = _bare(decoded.replace(unknown, "") if has_unknown and unknown else decoded)
    went = _bare(text)
    if not has_unknown and came in (went, _bare(normalized)):
        return ReadBack(1, characters=len(went))
    lost = min(_missing(went, came), _missing(_bare(normalized), came))
    return ReadBack(1, 1, int(has_unknown), len(went), max(lost, 1))


def _bare(text: str) -> str:
    return "".join(text.replace("▁", " ").split())


def _missing(went: str, came: str) -> int:
    """Characters of one that the other lacks, wherever they stand; at least one where they differ."""
    missing = Counter(went) - Counter(came)
    return sum(missing.values()) or int(went != came)


def not_read_back(what: str, found: ReadBack, kind: str) -> BadInput:
    """The refusal of a data set of which too much does not come back. `kind` is the tokenizer's class."""
    message = f"{what}: the model's tokenizer does not give the text back: {found.in_words(kind)}"
    return BadInput(message, "choose a base model whose tokenizer has the characters of this text")


def total(found: Iterable[ReadBack]) -> ReadBack:
    return sum(found, ReadBack())
