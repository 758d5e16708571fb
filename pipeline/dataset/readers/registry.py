"""The kinds of data file there are. Whoever reads rows asks here which of them a file is.

To add one: a file beside this one that declares `READER`, and its place in `READERS`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import (
    arrow,
    compressed,
    csv_table,
    files,
    json_array,
    json_holder,
    json_objects,
    jsonl,
    manifest,
    parquet,
    several,
    text,
)
from pipeline.dataset.readers.reader import DataFile, Reader

# Asked in this order whether a file is theirs; the last takes any.
READERS: tuple[Reader, ...] = (
    parquet.READER,
    arrow.READER,
    json_array.READER,
    json_holder.READER,
    json_objects.READER,
    text.READER,
    csv_table.READER,
    jsonl.READER,
)
# For a line of help, the usual kind first.
NAMES = "JSONL, JSON, CSV, TSV, Parquet, Arrow or text, also compressed (.gz .bz2 .xz .zst), or a folder of them"
_ROW_SUFFIXES = tuple(suffix for reader in reversed(READERS) if reader is not text.READER for suffix in reader.suffixes)
_PLAIN_SUFFIXES = (*_ROW_SUFFIXES, *text.SUFFIXES)
SUFFIXES = (*_PLAIN_SUFFIXES, *(f"{suffix}{packed}" for suffix in _PLAIN_SUFFIXES for packed in compressed.SUFFIXES))


def reader_of(path: Path) -> Reader:
    """The reader for what is at `path`, judged by what it begins with; only plain text and small tables are known by their name.

    Raises:
        BadInput: a folder or a pattern without a file that can be read.
        OSError: the file can't be read.
    """
    if files.is_several(path):
        listing = listed(path)
        return several.reader(path, listing, [several.Member(file, _reader_of_file(file)) for file in listing.files])
    if sources := manifest.sources_of(path):
        return together(path, sources, lambda source: reader_of(source.path))
    return _reader_of_file(path)


def together(path: Path, sources: Sequence[manifest.Source], reader: Callable[[manifest.Source], Reader]) -> Reader:
    """The reader of several sources.

    Args:
        reader: of each.
    """
    members = [several.Member(each.path, reader(each), each.title, each.form) for each in sources]
    return several.reader(path, files.Listing(()), members, "sources", manifest.PLACE_BITS)


def listed(path: Path) -> files.Listing:
    """The files of a folder or a pattern. Raises `BadInput` where none can be read."""
    listing = files.files_of(path, _ROW_SUFFIXES, text.SUFFIXES)
    if not listing.files:
        what = "is a folder" if path.is_dir() else "is a pattern"
        raise BadInput(f"{path}: {what} without a file that can be read", f"it takes {NAMES}")
    return listing


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files that are read for a path; none where nothing is there."""
    if sources := manifest.sources_of(path):
        parts = [parts_of(each.path) for each in sources]
        return tuple(file for each in parts for file in each) if all(parts) else ()
    if not files.is_several(path):
        return (path,) if path.is_file() else ()
    return files.files_of(path, _ROW_SUFFIXES, text.SUFFIXES).files


def holds_rows(name: str) -> bool:
    """Whether a file is called like one with rows in it (by its ending): for names of files that are not here."""
    return files.ends(name, _ROW_SUFFIXES)


def data_file(path: Path) -> DataFile:
    """What rows are read from for a file: what it holds, where it is compressed.

    Raises:
        BadInput: it is a pipe or a device, which opening would wait for and reading would use up.
        OSError: it can't be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadInput(f"{path}: is not a file", "rows are read more than once, so it has to be a file")
    packing = compressed.packing_of(path)
    return path if packing is None else compressed.Unpacked(path, packing)


def _reader_of_file(path: Path) -> Reader:
    file = data_file(path)
    inner = next(reader for reader in READERS if reader.recognises(file))
    return compressed.reader(file, inner) if isinstance(file, compressed.Unpacked) else inner
