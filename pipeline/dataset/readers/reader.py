"""What a reader of data files declares, and the rows it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

# Half a million words. Longer is no conversation but a file without line ends.
MAX_ROW_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it is in the file, or why there is none.

    Attributes:
        number: of its line or of its place in the file, from 1, as the reader's `unit` says.
        row: its keys and values; empty where there is a problem.
        problem: why it can't be a row; empty when it is one. Counted in reports, so it holds nothing of the row's text.
    """

    number: int
    row: dict[str, Any]
    problem: str = ""


def text_at(file: BinaryIO, position: int, most_bytes: int) -> str:
    """The line that begins at `position` (bytes), as it is written, cut to `most_bytes`."""
    file.seek(position)
    return file.readline(most_bytes).decode("utf-8", "replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Reader:
    """A kind of data file. Whatever reads holds no more of the file than its longest row; any of it may raise `OSError`.

    Attributes:
        name: as a person calls such files.
        suffixes: endings that they usually have, with the dot.
        unit: what the numbers of its rows count.
        is_text: rows are UTF-8 text, so a file that is plainly something else is refused.
        must_be_whole: damage anywhere leaves what follows unreadable, so such a file is read to its end before it is relied on.
        notice: what a person should know of such a file, to follow its path; empty for the usual kind.
        recognises: whether a file is of this kind, from what it begins with.
        rows: every row in the order of the file. Raises `BadInput` where what follows can't be told apart.
        count: the highest number a row can have: lines, blank ones included, or rows. Raises as `rows` does.
        positions: (number, byte it begins at) of each row, without looking at what it holds. Raises as `rows` does.
        row_at: the row of a number and position, in a file opened for reading bytes.
        text_at: the characters at a position as they are written, to so many bytes: for showing what is no row.
    """

    name: str
    suffixes: tuple[str, ...]
    unit: Literal["line", "row"]
    recognises: Callable[[Path], bool]
    rows: Callable[[Path], Iterator[RawRow]]
    count: Callable[[Path], int]
    positions: Callable[[Path], Iterator[tuple[int, int]]]
    row_at: Callable[[BinaryIO, int, int], RawRow]
    text_at: Callable[[BinaryIO, int, int], str] = text_at
    is_text: bool = True
    must_be_whole: bool = False
    notice: str = ""
