"""Python's search for cycles, put off while many rows go by."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects before the youngest are searched, and how often that leads to a search of the older ones and of all.
_SEARCHES = (20_000, 10, 1_000)


@contextmanager
def searched_seldom() -> Iterator[None]:
    """Rows make no cycles, and each search of all goes through what the libraries hold: it took a fifth of the time of a row."""
    before = gc.get_threshold()
    gc.set_threshold(*_SEARCHES)
    try:
        yield
    finally:
        gc.set_threshold(*before)
