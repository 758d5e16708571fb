"""One row of the troubleshooting table."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "…"


@dataclass(frozen=True)
class Trouble:
    """What can go wrong, as the reader meets it.

    Attributes:
        reads: first lines of the errors, `…` for what differs each time.
        raised_in: files that raise errors without text of their own: `reads` says what those are put together from.
    """

    reads: tuple[str, ...]
    why: str
    do: str
    raised_in: tuple[str, ...] = ()
