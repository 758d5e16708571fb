"""The kinds of data file there are. Whoever reads rows asks here which of them a file is.

To add one: a file beside this one that declares `READER`, and its place in `READERS`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.readers import json_array, jsonl
from pipeline.dataset.readers.reader import Reader

# Asked in this order whether a file is theirs; the last takes any.
READERS: tuple[Reader, ...] = (json_array.READER, jsonl.READER)
# For a line of help, the usual kind first.
NAMES = " or ".join(reader.name for reader in reversed(READERS))
SUFFIXES = tuple(suffix for reader in reversed(READERS) for suffix in reader.suffixes)


def reader_of(path: Path) -> Reader:
    """The reader for the file at `path`, judged by what it begins with, never by its name.

    Raises:
        OSError: the file can't be read.
    """
    return next(reader for reader in READERS if reader.recognises(path))
