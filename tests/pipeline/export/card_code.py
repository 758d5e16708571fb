"""The lines of Python that a card tells its reader to run."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path


def code_of(card: Path) -> str:
    """The first block of the card that imports something, as it stands."""
    return code_of_text(card.read_text(encoding="utf-8"))


def code_of_text(card: str) -> str:
    """The same of a card's text."""
    lines = card.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(("    from ", "    import ")))
    block = takewhile(lambda line: not line or line.startswith("    "), lines[begin:])
    return "\n".join(line[4:] for line in block)
