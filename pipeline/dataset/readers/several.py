"""Several files read as one, one after the other: a folder, or what a pattern names."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.dataset.readers.files import Listing
from pipeline.dataset.readers.reader import DataFile, Form, RawRow, Reader, RowAccess

# How many files stay open while any row is looked at.
_MOST_OPEN = 16
_MOST_NAMED = 5
# A row's position: the file's number above, the position in it below.
_FILE_BITS = 40


@dataclass(frozen=True, slots=True)
class Member:
    """One of the files with its reader; of a source its name and how its rows are written."""

    path: Path
    reader: Reader
    title: str = ""
    form: Form | None = None


def reader(path: Path, listing: Listing, members: list[Member], name: str = "", bits: int = _FILE_BITS) -> Reader:
    """The reader of all of them, bound to them. Rows are numbered through; `place` says where in which file.

    Args:
        name: as a person calls it; "folder" or "files" if not given.
        bits: of a position, that tell a row's place in its own file.
    """

    def rows(_path: DataFile) -> Iterator[RawRow]:
        number = 0
        for member in members:
            for row in _readable(path, member):
                number += 1
                yield replace(row, number=number, place=_placed(path, member, row), form=member.form)

    def positions(_path: DataFile) -> Iterator[tuple[int, int]]:
        # The number in its own file, which `access` makes a place of again.
        for at, member in enumerate(members):
            for number, position in member.reader.positions(member.path):
                yield number, at << bits | position

    return Reader(
        name=name or ("folder" if path.is_dir() else "files"),
        suffixes=(),
        unit="row",
        is_text=False,
        recognises=lambda _path: True,
        rows=rows,
        count=lambda _path: sum(member.reader.count(member.path) for member in members),
        positions=positions,
        access=lambda _path: _access(path, members, bits),
        notice=lambda _path: _notice(listing, members, name or "files"),
    )


def _readable(path: Path, member: Member) -> Iterator[RawRow]:
    """The rows of one of the files; one that can't be read at all is one row with the reason."""
    try:
        yield from member.reader.rows(member.path)
    except BadInput as error:
        yield RawRow(1, {}, error.message.removeprefix(f"{member.path}: "), f"file {_name(path, member)}")


def _placed(path: Path, member: Member, row: RawRow) -> str:
    if member.title:
        return f"{member.title}: {row.where(member.reader.unit)}"
    return row.place or f"{_name(path, member)} {row.where(member.reader.unit)}"


def _name(path: Path, member: Member) -> str:
    if member.title:
        return member.title
    return os.path.relpath(member.path, path) if path.is_dir() else member.path.name


def _notice(listing: Listing, members: list[Member], name: str) -> str:
    if name != "files":
        return f"stands for {len(members)} {name}: {', '.join(f'{each.title} ({each.reader.name})' for each in members)}"
    counts = Counter(member.reader.name for member in members)
    kinds = ", ".join(f"{count} {name}" for name, count in counts.items())
    left_out = [file.name for file in listing.left_out]
    more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
    beside = f"; not read: {', '.join(left_out[:_MOST_NAMED])}{more}" if left_out else ""
    return f"stands for {len(members)} file{'s' * (len(members) != 1)} ({kinds}){beside}"


class _Access:
    """The files opened as they are asked for, the latest few held open."""

    def __init__(self, path: Path, members: list[Member], bits: int) -> None:
        self._path, self._members, self._bits = path, members, bits
        self._open: OrderedDict[int, tuple[ExitStack, RowAccess]] = OrderedDict()

    def row_at(self, number: int, position: int) -> RawRow:
        at, inner = divmod(position, 1 << self._bits)
        row = self._of(at).row_at(number, inner)
        return replace(row, place=_placed(self._path, self._members[at], row), form=self._members[at].form)

    def text_at(self, position: int, most_bytes: int) -> str:
        at, inner = divmod(position, 1 << self._bits)
        return self._of(at).text_at(inner, most_bytes)

    def _of(self, at: int) -> RowAccess:
        if at not in self._open:
            while len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)[1][0].close()
            stack = ExitStack()
            member = self._members[at]
            self._open[at] = stack, stack.enter_context(member.reader.access(member.path))
        self._open.move_to_end(at)
        return self._open[at][1]

    def close(self) -> None:
        for stack, _ in self._open.values():
            stack.close()


@contextmanager
def _access(path: Path, members: list[Member], bits: int) -> Iterator[RowAccess]:
    with closing(_Access(path, members, bits)) as access:
        yield access
