"""Plain text: a file is one document, a long one several, cut where a paragraph ends. Rows are `{"text": …}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.dataset.readers import json_values
from pipeline.dataset.readers.jsonl import count_lines, raw_lines
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, RawRow, Reader, text_access

SUFFIXES = (".txt", ".text", ".md", ".rst")
# A document of this length still fits into a row of any container.
_PIECE_BYTES = MAX_ROW_BYTES // 4


def _pieces(file: BinaryIO, number: int = 1) -> Iterator[tuple[int, int, RawRow]]:
    """(line, byte, row) of each piece: its lines up to a blank one behind which it would grow too long."""
    begin, held, size, first = file.tell(), list[bytes](), 0, number
    for raw in raw_lines(file):
        if raw is None:
            if held:
                yield first, begin, _row(first, held)
            yield number, begin + size, RawRow(number, {}, f"the line is longer than {MAX_ROW_BYTES >> 20} MiB")
            begin, held, size, first = file.tell(), [], 0, number + 1
        else:
            held.append(raw)
            size += len(raw)
            if size >= _PIECE_BYTES and (not raw.strip() or size >= 2 * _PIECE_BYTES):
                yield first, begin, _row(first, held)
                begin, held, size, first = file.tell(), [], 0, number + 1
        number += 1
    if held:
        yield first, begin, _row(first, held)


def _row(number: int, lines: list[bytes]) -> RawRow:
    try:
        text = b"".join(lines).decode("utf-8")
    except UnicodeDecodeError:
        return RawRow(number, {}, "not UTF-8 text")
    return RawRow(number, {"text": text})


def _rows(path: DataFile) -> Iterator[RawRow]:
    with path.open("rb") as file:
        yield from (row for _, _, row in _pieces(file) if row.problem or row.row["text"].strip())


def _positions(path: DataFile) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        yield from ((line, begin) for line, begin, row in _pieces(file) if row.problem or row.row["text"].strip())


def _read(file: BinaryIO, number: int) -> RawRow:
    return next((row for _, _, row in _pieces(file, number)), RawRow(number, {}, "the row is no longer there"))


def _recognises(path: DataFile) -> bool:
    """Called a text, and not JSON under that name."""
    return path.name.lower().endswith(SUFFIXES) and not json_values.head_of(path).startswith((b"{", b"[{"))


READER = Reader(
    name="text",
    suffixes=SUFFIXES,
    unit="line",
    recognises=_recognises,
    rows=_rows,
    count=count_lines,
    positions=_positions,
    access=text_access(_read),
)
