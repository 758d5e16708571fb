"""What a reader of data files declares, and the rows it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from pipeline.config.schema import FoundSchema

# Half a million words. Longer is no conversation but a file without line ends.
MAX_ROW_BYTES = 4 << 20


class DataFile(Protocol):
    """What rows are read from: a path, or what a compressed file holds."""

    @property
    def name(self) -> str:
        """The file's name without the ending of a compression."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """From the start. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the rows of one of several sources are written.

    Attributes:
        number: of the source among them, from 0.
        columns: as `data.columns`.
    """

    number: int
    schema: FoundSchema
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it is in the file, or why there is none.

    Attributes:
        number: of its line or of its place in the file, from 1, as the reader's `unit` says. Of several files: among all rows.
        row: its keys and values; empty where there is a problem.
        problem: why it can't be a row; empty when it is one. Counted in reports, so it holds nothing of the row's text.
        place: where it stands where its number alone does not lead there: the file among several, with line or row.
        form: of the source it is from, where there are several; None where the config says how rows are written.
    """

    number: int
    row: dict[str, Any]
    problem: str = ""
    place: str = ""
    form: Form | None = None

    def where(self, unit: str) -> str:
        """Its place for a person: "line 17", "b.jsonl line 4"."""
        return self.place or f"{unit} {self.number}"


class RowAccess(Protocol):
    """A data file that is open for looking at any of its rows."""

    def row_at(self, number: int, position: int) -> RawRow:
        """The row of a number and position that `Reader.positions` gave."""

    def text_at(self, position: int, most_bytes: int) -> str:
        """What stands at a position as it is written, to so many bytes: for showing what is no row."""


def text_at(file: BinaryIO, position: int, most_bytes: int) -> str:
    """The line that begins at `position` (bytes), as it is written, cut to `most_bytes`."""
    file.seek(position)
    return file.readline(most_bytes).decode("utf-8", "replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class TextAccess:
    """`RowAccess` of a file of text, in which a row is found by the byte it begins at.

    Attributes:
        read: the row of a number, whose first byte comes next in the file.
    """

    file: BinaryIO
    read: Callable[[BinaryIO, int], RawRow]

    def row_at(self, number: int, position: int) -> RawRow:
        self.file.seek(position)
        return self.read(self.file, number)

    def text_at(self, position: int, most_bytes: int) -> str:
        return text_at(self.file, position, most_bytes)


def text_access(read: Callable[[BinaryIO, int], RawRow]) -> Callable[[DataFile], AbstractContextManager[RowAccess]]:
    """`Reader.access` of a text container, by how one row is read where it begins."""

    @contextmanager
    def access(path: DataFile) -> Iterator[RowAccess]:
        with path.open("rb") as file:
            yield TextAccess(file, read)

    return access


def nothing_to_say(_path: DataFile) -> str:
    """`Reader.notice` of the usual kind."""
    return ""


@dataclass(frozen=True, slots=True)
class Reader:
    """A kind of data file. Whatever reads holds no more of the file than its longest row; any of it may raise `OSError`.

    What is damaged costs its own rows: they come with a problem, and reading goes on behind them.

    Attributes:
        name: as a person calls such files.
        suffixes: endings that they usually have, with the dot.
        unit: what the numbers of its rows count.
        is_text: rows are UTF-8 text, so a file that is plainly something else is refused.
        recognises: whether a file is of this kind, from what it begins with.
        rows: every row in the order of the file. Raises `BadInput` where nothing of the file can be read.
        count: the highest number a row can have: lines, blank ones included, or rows. Raises as `rows` does.
        positions: (number, where it begins) of each row, without looking at what it holds. Raises as `rows` does.
        access: the file opened for reading any row.
        notice: what a person should know of such a file, to follow its path; empty for the usual kind.
    """

    name: str
    suffixes: tuple[str, ...]
    unit: Literal["line", "row"]
    recognises: Callable[[DataFile], bool]
    rows: Callable[[DataFile], Iterator[RawRow]]
    count: Callable[[DataFile], int]
    positions: Callable[[DataFile], Iterator[tuple[int, int]]]
    access: Callable[[DataFile], AbstractContextManager[RowAccess]]
    is_text: bool = True
    notice: Callable[[DataFile], str] = nothing_to_say
