"""Reading rows: each line of a JSONL file, or each element of a JSON array, is a row or a reason why it is none.

Memory is bounded by the longest row.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pipeline.common.errors import BadInput
from pipeline.common.strict_json import DuplicateKey, keys_once
from pipeline.dataset.readers import json_array
from pipeline.dataset.readers.json_array import DamagedArray, Element

# Half a million words. Longer is no conversation but a file without line ends.
MAX_LINE_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 12
_DECODER = json.JSONDecoder(object_pairs_hook=keys_once)


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank; `number` counts from 1, blank ones included. `problem` is empty when there is a row.

    In a JSON array `number` counts the elements: all of them may stand in one line.
    """

    number: int
    row: dict[str, Any]
    problem: str = ""


def read_lines(path: Path) -> Iterator[Line]:
    """The rows of `path`.

    Raises:
        BadInput: a JSON array is damaged, so that what follows can't be told apart. No line of JSONL makes this raise.
        OSError: the disk.
    """
    if is_array(path):
        yield from (_row(number, element) for number, element in enumerate(_elements(path), start=1))
        return
    with path.open("rb") as file:
        for number, raw in enumerate(_raw_lines(file), start=1):
            if raw is None:
                yield Line(number, {}, _too_long())
            elif raw.strip():
                yield _line(number, raw)


def positions(path: Path) -> Iterator[tuple[int, int]]:
    """(number, where it begins in bytes) of each row, without looking at what a line holds: see `line_at`.

    Raises as `read_lines` does.
    """
    if is_array(path):
        yield from ((number, element.position) for number, element in enumerate(_elements(path), start=1))
        return
    with path.open("rb") as file:
        begin = 0
        for number, raw in enumerate(_raw_lines(file), start=1):
            if raw is None or raw.strip():
                yield number, begin
            begin = file.tell()


def line_at(file: BinaryIO, number: int, position: int, *, in_array: bool = False) -> Line:
    """The row that `positions` told of; `in_array` is what `is_array` says of the file."""
    if in_array:
        return _row(number, json_array.element_at(file, position, MAX_LINE_BYTES))
    file.seek(position)
    raw = next(_raw_lines(file), b"")
    return Line(number, {}, _too_long()) if raw is None else _line(number, raw)


def is_array(path: Path) -> bool:
    """Whether the whole file is one JSON array of objects rather than one row a line."""
    with path.open("rb") as file:
        if not json_array.looks_like_array(file.read(_HEAD_BYTES)):
            return False
        file.seek(0)
        lines = (raw for raw in _raw_lines(file) if raw is None or raw.strip())
        first = next(lines, None)
        return first is None or not _is_whole(first) or next(lines, b"") == b""


def _is_whole(raw: bytes) -> bool:
    """A line that is JSON by itself: when others follow, each line is a list, which no row is written as."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def unit(path: Path) -> Literal["line", "row"]:
    """What the numbers of `read_lines` count."""
    return "row" if is_array(path) else "line"


def count_lines(path: Path) -> int:
    """Lines of the file, blank ones included (the last need not end); of a JSON array, its elements.

    Raises as `read_lines` does.
    """
    if is_array(path):
        return sum(1 for _ in _elements(path))
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _elements(path: Path) -> Iterator[Element]:
    with path.open("rb") as file:
        try:
            yield from json_array.elements(file, MAX_LINE_BYTES)
        except DamagedArray as error:
            hint = "mend the file there, or write one JSON object a line: what follows can't be told apart"
            raise BadInput(f"{path}: {error}", hint) from error


def _row(number: int, element: Element) -> Line:
    if element.problem:
        return Line(number, {}, element.problem)
    return Line(number, element.value) if isinstance(element.value, dict) else Line(number, {}, "not a JSON object")


def _too_long() -> str:
    return f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"


def _raw_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Bytes of each line, None for one that is too long to hold. A byte order mark at the start is skipped."""
    first = True
    while line := file.readline(MAX_LINE_BYTES + 1):
        too_long = len(line) > MAX_LINE_BYTES
        while too_long and not line.endswith(b"\n") and (line := file.readline(_CHUNK_BYTES)):
            pass
        yield None if too_long else line.removeprefix(codecs.BOM_UTF8) if first else line
        first = False


def _line(number: int, raw: bytes) -> Line:
    try:
        row = _DECODER.decode(raw.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError:
        return Line(number, {}, "not UTF-8 text")
    except json.JSONDecodeError as error:
        return Line(number, {}, f"not JSON: {json_array.words_of(error)}")
    except RecursionError:
        return Line(number, {}, "not JSON: nested too deeply")
    except DuplicateKey as error:
        return Line(number, {}, f"not JSON: {error}")
    except ValueError:
        # The only other one json raises: Python refuses to read a number of thousands of digits.
        return Line(number, {}, "not JSON: a number is too long")
    return Line(number, row) if isinstance(row, dict) else Line(number, {}, "not a JSON object")
