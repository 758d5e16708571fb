"""A value that can be chosen in a form, or one that people ask for and that can't be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Something to choose from.

    Attributes:
        value: as a config has it.
        what: what it is, in a phrase.
        unavailable: why it can't be chosen, its short form before a colon; empty when it can.
    """

    value: str
    what: str
    unavailable: str = ""
