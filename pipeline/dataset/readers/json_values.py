"""What the readers of JSON share that is not written a row a line: the elements of a file, and its rows made of them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pipeline.dataset.readers.json_window import Element, Window
from pipeline.dataset.readers.jsonl import as_row
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, RawRow

HEAD_BYTES = 1 << 12

Elements = Callable[[BinaryIO], Iterator[Element]]
"""The elements of a file, from its start."""


def head_of(path: DataFile) -> bytes:
    """What the file begins with, without a byte order mark and white space."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()


def is_whole(raw: bytes) -> bool:
    """Whether it is JSON by itself."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def in_array(window: Window) -> Iterator[Element]:
    """The elements of the array that begins here, to its end. Commas that are missing or too many part no less well."""
    window.skip("[")
    while (character := window.next_character()) not in ("", "]"):
        if not window.skip(","):
            yield window.element()
        elif window.skip("]"):
            return
    if not character and not window.broke_off:
        yield Element(window.position, None, f"line {window.line}: the JSON array breaks off")
    window.skip("]")


def rows(elements: Elements) -> Callable[[DataFile], Iterator[RawRow]]:
    """`Reader.rows` by how the elements are found."""

    def read(path: DataFile) -> Iterator[RawRow]:
        with path.open("rb") as file:
            yield from (as_raw(number, element) for number, element in enumerate(elements(file), start=1))

    return read


def count(elements: Elements) -> Callable[[DataFile], int]:
    """`Reader.count`."""

    def counted(path: DataFile) -> int:
        with path.open("rb") as file:
            return sum(1 for _ in elements(file))

    return counted


def positions(elements: Elements) -> Callable[[DataFile], Iterator[tuple[int, int]]]:
    """`Reader.positions`."""

    def places(path: DataFile) -> Iterator[tuple[int, int]]:
        with path.open("rb") as file:
            yield from ((number, element.position) for number, element in enumerate(elements(file), start=1))

    return places


def read_one(file: BinaryIO, number: int) -> RawRow:
    """The row whose first character comes next in the file. Lines in its problem count from there."""
    window = Window(file, MAX_ROW_BYTES)
    window.next_character()
    return as_raw(number, window.element())


def as_raw(number: int, element: Element) -> RawRow:
    """The row that an element is."""
    return RawRow(number, {}, element.problem) if element.problem else as_row(number, element.value)
