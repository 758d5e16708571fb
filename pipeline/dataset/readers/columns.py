"""What Parquet and Arrow share: batches of columns as rows, and any of them found again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, RawRow, RowAccess

BATCH_ROWS = 256
# What a damaged file says of itself may be wrong too: rows of a lost piece that are reported one by one.
_MOST_LOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a columnar file that is read by itself, and lost by itself.

    Attributes:
        name: as a person finds it: "row group 3".
        rows: how many the file says there are.
        batches: record batches, each at most `BATCH_ROWS` long. Raises `LOST`, and may do so in their midst.
    """

    name: str
    rows: int
    batches: Callable[[], Iterator[Any]]


Pieces = Callable[[DataFile], AbstractContextManager[Iterator[Piece]]]
"""A file's pieces in order. Raises `BadInput` where it says of itself nothing that can be read."""


def lost_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for damaged bytes. Its own are `ValueError`, `TypeError` and the like beside `ArrowException`."""
    from pyarrow import ArrowException

    return (ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, OverflowError)


def rows(pieces: Pieces) -> Callable[[DataFile], Iterator[RawRow]]:
    """`Reader.rows` by a file's pieces."""

    def read(path: DataFile) -> Iterator[RawRow]:
        with pieces(path) as parts:
            number = 0
            for part in parts:
                for row in _rows_of(part, number):
                    number = row.number
                    yield row

    return read


def _rows_of(piece: Piece, number: int) -> Iterator[RawRow]:
    """The rows of a piece behind row `number`; those that are lost come with the reason."""
    last = number + piece.rows
    try:
        for batch in piece.batches():
            for row in _rows_in(batch):
                number += 1
                yield RawRow(number, row) if isinstance(row, dict) else RawRow(number, {}, row)
    except lost_errors() as error:
        problem = f"{piece.name} is damaged: {_first_line(error)}"
        for lost in range(number + 1, min(last, number + _MOST_LOST) + 1 if last > number else number + 2):
            yield RawRow(lost, {}, problem)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _rows_in(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Rows, or why one is none."""
    if batch.nbytes > MAX_ROW_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _rows_in(batch.slice(0, half))
        yield from _rows_in(batch.slice(half))
    elif batch.nbytes > MAX_ROW_BYTES:
        yield f"the row is longer than {MAX_ROW_BYTES >> 20} MiB"
    else:
        yield from _decoded(batch)


def _decoded(batch: Any) -> Iterator[dict[str, Any] | str]:
    try:
        decoded = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield "not UTF-8 text"
            return
        for at in range(batch.num_rows):
            yield from _decoded(batch.slice(at, 1))
        return
    yield from map(without_nulls, decoded)


def without_nulls(value: Any) -> Any:
    """The value without keys that hold nothing: in columns every object has the keys of all others."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def count(pieces: Pieces) -> Callable[[DataFile], int]:
    """`Reader.count`, by what the pieces say of themselves."""

    def counted(path: DataFile) -> int:
        with pieces(path) as parts:
            return sum(part.rows for part in parts)

    return counted


def positions(pieces: Pieces) -> Callable[[DataFile], Iterator[tuple[int, int]]]:
    """`Reader.positions`: a row's position is its number."""

    def places(path: DataFile) -> Iterator[tuple[int, int]]:
        yield from ((number, number) for number in range(1, count(pieces)(path) + 1))

    return places


class _Access:
    """The rows by number. The next one is at hand; another is looked for from the beginning of its piece."""

    def __init__(self, parts: list[Piece]) -> None:
        self._parts = parts
        self._ahead: Iterator[RawRow] = iter(())
        self._last, self._end = 0, 0

    def row_at(self, number: int, position: int) -> RawRow:
        if not self._last < number <= self._end:
            self._open_piece_of(number)
        for row in self._ahead:
            self._last = row.number
            if row.number >= number:
                return row
        return RawRow(number, {}, "the row is no longer there")

    def _open_piece_of(self, number: int) -> None:
        begin = 0
        for part in self._parts:
            if begin + part.rows >= number:
                break
            begin += part.rows
        else:
            return
        self._ahead, self._last, self._end = _rows_of(part, begin), begin, begin + part.rows

    def text_at(self, position: int, most_bytes: int) -> str:
        row = self.row_at(position, position)
        return row.problem or json.dumps(row.row, ensure_ascii=False, default=str)[:most_bytes]


def access(pieces: Pieces) -> Callable[[DataFile], AbstractContextManager[RowAccess]]:
    """`Reader.access` by a file's pieces."""

    @contextmanager
    def opened(path: DataFile) -> Iterator[RowAccess]:
        with pieces(path) as parts:
            yield _Access(list(parts))

    return opened
