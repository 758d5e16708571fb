"""What a row schema declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import RowSchema
from pipeline.tokenization.messages import Said


@dataclass(frozen=True, slots=True)
class Schema:
    """A way in which rows are written.

    Attributes:
        name: the word of `data.schema`.
        what: a few words on it, for a list of choices.
        keys: a row that has all of them is taken for one of this schema.
        example: a row with every key that is read, as the documentation shows it.
        messages: a row's conversation as it is written, or its messages alone, not yet cleaned. Raises `BadInput`; its message
            is counted in reports as the reason why the row is rejected, so it holds nothing of the row's text.
    """

    name: RowSchema
    what: str
    keys: tuple[str, ...]
    example: Mapping[str, Any]
    messages: Callable[[dict[str, Any]], Said]

    @property
    def outline(self) -> str:
        """A row in one line, its values left out: `{"messages": […]}`."""
        pairs = (f'"{key}": {"[…]" if isinstance(self.example[key], list) else "…"}' for key in self.keys)
        return f"{{{', '.join(pairs)}}}"
