"""What a row schema declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import DataSection, FoundSchema
from pipeline.dataset.readers.reader import DataFile, Reader
from pipeline.tokenization.messages import Conversation


@dataclass(frozen=True, slots=True)
class Schema:
    """A way in which rows are written.

    Attributes:
        name: the word of `data.schema`.
        what: a few words on it, for a list of choices.
        evidence: what rows have by which they are known, in words.
        example: a row with every key that is read, as the documentation shows it.
        maps: how its keys become messages, for the documentation.
        fits: whether a row is taken for one of this schema, by its keys and what stands under them.
        conversation: what a row says, not yet cleaned. Raises `BadInput`; its message is counted in reports as the reason why the
            row is rejected, so it holds nothing of the row's text.
        used: keys of a row that `conversation` uses. Any other that says something is reported as left out.
        lists: those of them that are lists of messages, whose keys `turns.USED` names.
        also_used: further keys of a row that `conversation` uses, where that depends on the row.
        left_out: what else of a row is not used, by a name for the report.
        gathered: the reader of a file whose rows are not conversations but parts of one, or several: it gives one a conversation.
    """

    name: FoundSchema
    what: str
    evidence: str
    example: Mapping[str, Any]
    maps: str
    fits: Callable[[Mapping[str, Any]], bool]
    conversation: Callable[[Mapping[str, Any]], Conversation]
    used: frozenset[str]
    lists: tuple[str, ...] = ()
    left_out: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda _row: ()
    also_used: Callable[[Mapping[str, Any]], frozenset[str]] = lambda _row: frozenset()
    gathered: Callable[[Reader, DataFile, DataSection], Reader] = lambda reader, _file, _data: reader

    @property
    def outline(self) -> str:
        """A row in one line, its values left out: `{"messages": […]}`."""
        pairs = (f'"{key}": {"[…]" if isinstance(value, list) else "…"}' for key, value in self.example.items())
        return f"{{{', '.join(pairs)}}}"
