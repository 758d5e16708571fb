"""Reading a JSONL file line by line: each line is a row or a reason why it is none. Memory is bounded by the longest line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# Half a million words. Longer is no conversation but a file without line ends.
MAX_LINE_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank; `number` counts from 1, blank ones included. `problem` is empty when there is a row."""

    number: int
    row: dict[str, Any]
    problem: str = ""


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of `path`. Nothing in the file makes this raise but an `OSError` of the disk."""
    with path.open("rb") as file:
        for number, raw in enumerate(_raw_lines(file), start=1):
            if raw is None:
                yield Line(number, {}, _too_long())
            elif raw.strip():
                yield _line(number, raw)


def positions(path: Path) -> Iterator[tuple[int, int]]:
    """(number, where it begins in bytes) of each line that is not blank, without reading what is in it: see `line_at`."""
    with path.open("rb") as file:
        begin = 0
        for number, raw in enumerate(_raw_lines(file), start=1):
            if raw is None or raw.strip():
                yield number, begin
            begin = file.tell()


def line_at(file: BinaryIO, number: int, position: int) -> Line:
    """The line that `positions` told of."""
    file.seek(position)
    raw = next(_raw_lines(file), b"")
    return Line(number, {}, _too_long()) if raw is None else _line(number, raw)


def _too_long() -> str:
    return f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"


def count_lines(path: Path) -> int:
    """Lines of the file, blank ones included; the last need not end."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


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
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Line(number, {}, "not UTF-8 text")
    except json.JSONDecodeError as error:
        return Line(number, {}, f"not JSON: {error.msg}")
    except RecursionError:
        return Line(number, {}, "not JSON: nested too deeply")
    except ValueError:
        # The only other one json raises: Python refuses to read a number of thousands of digits.
        return Line(number, {}, "not JSON: a number is too long")
    if not isinstance(row, dict):
        return Line(number, {}, "not a JSON object")
    return Line(number, row)
