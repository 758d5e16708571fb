"""How much there is to train on: counted in prepared data, or estimated from a sample."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFigures:
    """How much there is to train on in one epoch.

    Attributes:
        rows: packed rows of `row_tokens` capacity (conversations, where packing is off).
        tokens: real tokens, padding not counted; `trained_tokens` those with a label.
        exact: counted, not estimated from a sample.
    """

    rows: int
    row_tokens: int
    conversations: int
    tokens: int
    trained_tokens: int
    exact: bool
