"""CSV and TSV with a line of names at the top, as RFC 4180 and Excel write them. Memory is bounded by the longest row.

A cell is text. Rows count by the line they begin on. Where a quote is opened and never closed, its own line is lost and reading
goes on with the next.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, NamedTuple

from pipeline.common.errors import BadInput
from pipeline.dataset.readers.jsonl import count_lines, raw_lines
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, RawRow, Reader, RowAccess, TextAccess

_HEAD_BYTES = 1 << 16
_DELIMITERS = (",", "\t", ";", "|")
_NAME = re.compile(r"[^\W\d][\w .:/()-]{0,63}")
_ROWS_COMPARED = 5
# Lines that are read again because a quote swallowed what follows them: each costs as much as a row may have.
_MOST_READ_AGAIN = 200


class _SwallowedTooMuch(Exception):
    """A quote is not closed within what a row may have."""


class _Line(NamedTuple):
    """A line, its number, and the byte it begins at."""

    number: int
    begin: int
    text: str


class _Lines:
    """The lines of a file as a `csv.reader` takes them, those of the record under way held so that they can be read again.

    Args:
        number: of the line that comes next in the file.
    """

    def __init__(self, file: BinaryIO, number: int) -> None:
        self._file, self._lines = file, raw_lines(file)
        self._again: deque[_Line] = deque()
        self._number, self._begin = number, file.tell()
        self.taken: list[_Line] = []
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        self.taken.append(line)
        self._characters += len(line.text)
        if self._characters > MAX_ROW_BYTES:
            raise _SwallowedTooMuch
        return line.text

    def _read(self) -> _Line:
        raw = next(self._lines)
        line = _Line(self._number, self._begin, "\n" if raw is None else raw.decode("utf-8", "surrogateescape"))
        self._number, self._begin = self._number + 1, self._file.tell()
        if raw is None:
            self.taken.append(line)
            raise _SwallowedTooMuch
        return line

    def begin_record(self) -> None:
        self.taken, self._characters = [], 0

    def read_again(self) -> None:
        """All lines of this record but its first."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.begin_record()


def delimiter_of(path: DataFile) -> str:
    """What stands between the cells, by the first lines; "" where the file is no table.

    A file that is not called one is taken for one only where several names stand above rows of as many cells.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8)
    text = head.decode("utf-8", "surrogateescape").lstrip("\r\n")
    if not text.strip() or text.lstrip().startswith(("{", "[")) or "\0" in text:
        return ""
    called_one = path.name.lower().endswith((".csv", ".tsv"))
    lines = text.splitlines(keepends=True)
    whole = lines if len(head) < _HEAD_BYTES else lines[:-1] or lines
    found = [(_columns(whole, delimiter), delimiter) for delimiter in _DELIMITERS]
    columns, delimiter = max(found, key=lambda each: each[0])
    if columns > 1:
        return delimiter
    return ("\t" if path.name.lower().endswith(".tsv") else ",") if called_one else ""


def _columns(lines: list[str], delimiter: str) -> int:
    """How many names the first line has where they look like names and the rows below have as many cells; else 0."""
    try:
        records = list(islice((cells for cells in csv.reader(lines, delimiter=delimiter) if cells), _ROWS_COMPARED + 1))
    except csv.Error:
        return 0
    if not records or len(records) < 2:
        return 0
    names, rows = records[0], records[1:]
    good = len(set(names)) == len(names) and all(_NAME.fullmatch(name.strip()) for name in names)
    alike = sum(len(row) == len(names) for row in rows)
    return len(names) if good and alike * 2 > len(rows) else 0


def _recognises(path: DataFile) -> bool:
    return bool(delimiter_of(path))


class _Table:
    """A table from its header on: `names` of the columns, then its rows."""

    def __init__(self, file: BinaryIO, delimiter: str, names: list[str] | None = None, number: int = 1) -> None:
        csv.field_size_limit(MAX_ROW_BYTES)
        self._delimiter = delimiter
        self._lines = _Lines(file, number)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._left = _MOST_READ_AGAIN
        self.names = names if names is not None else self._header()

    def _header(self) -> list[str]:
        for cells in self._reader:
            if any(cell.strip() for cell in cells):
                names = [cell.strip() for cell in cells]
                while names and not names[-1]:
                    names.pop()
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise BadInput(f"the column {twice[:40]!r} stands twice in the header", "give each column a name of its own")
                return names
        return []

    def rows(self) -> Iterator[RawRow]:
        return (row for _, row in self.placed())

    def placed(self) -> Iterator[tuple[int, RawRow]]:
        """Each row after the byte it begins at."""
        while True:
            self._lines.begin_record()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (_SwallowedTooMuch, csv.Error) as error:
                begin, row = self._lines.taken[0].begin, self._leniently(error)
            else:
                begin, row = self._lines.taken[0].begin, self._row(cells)
            if row is not None:
                yield begin, row

    def _leniently(self, error: Exception) -> RawRow | None:
        """A line that breaks the rules by itself (`"a" b`) is read as spreadsheets read it; others have an open quote."""
        taken = self._lines.taken
        if isinstance(error, _SwallowedTooMuch) or len(taken) > 1:
            return self._damaged("a quote is not closed")
        self._reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        try:
            return self._row(next(csv.reader([taken[0].text], delimiter=self._delimiter)))
        except csv.Error:
            return RawRow(taken[0].number, {}, "not CSV")

    def _row(self, cells: list[str]) -> RawRow | None:
        number = self._lines.taken[0].number
        if not any(cells):
            return None
        if len(cells) < len(self.names) or any(cells[len(self.names) :]):
            problem = f"{len(cells)} cell{'s' * (len(cells) != 1)}, the header has {len(self.names)}"
            # A quote that nobody closed has swallowed lines that are rows themselves.
            return self._damaged(problem) if len(self._lines.taken) > 1 else RawRow(number, {}, problem)
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            return RawRow(number, {}, "not UTF-8 text")
        return RawRow(number, dict(zip(self.names, cells, strict=False)))

    def _damaged(self, problem: str) -> RawRow:
        """The first line of the record is lost; those behind it are read again, as long as that comes to an end."""
        number = self._lines.taken[0].number
        if self._left:
            self._left -= 1
            self._lines.read_again()
        self._reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        return RawRow(number, {}, problem)


def _rows(path: DataFile) -> Iterator[RawRow]:
    with path.open("rb") as file:
        yield from _table(path, file).rows()


def _table(path: DataFile, file: BinaryIO) -> _Table:
    try:
        return _Table(file, delimiter_of(path))
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", error.hint) from error
    except (_SwallowedTooMuch, csv.Error) as error:
        raise BadInput(f"{path}: its header can't be read as names of columns", "write it as JSONL, one object a line") from error


def _positions(path: DataFile) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        for begin, row in _table(path, file).placed():
            yield row.number, begin


@contextmanager
def _access(path: DataFile) -> Iterator[RowAccess]:
    delimiter = delimiter_of(path)
    with path.open("rb") as file:
        names = _table(path, file).names

        def read(file: BinaryIO, number: int) -> RawRow:
            table = _Table(file, delimiter, names, number)
            return next(table.rows(), RawRow(number, {}, "the row is no longer there"))

        yield TextAccess(file, read)


READER = Reader(
    name="CSV",
    suffixes=(".csv", ".tsv"),
    unit="line",
    recognises=_recognises,
    rows=_rows,
    count=count_lines,
    positions=_positions,
    access=_access,
)
