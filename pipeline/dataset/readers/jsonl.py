"""JSON lines: each line is a row or a reason why it is none. Memory is bounded by the longest row."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.common.strict_json import DuplicateKey, complaint, keys_once
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, RawRow, Reader

_CHUNK_BYTES = 1 << 20
_DECODER = json.JSONDecoder(object_pairs_hook=keys_once)


def raw_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Bytes of each line, None for one that is too long to hold. A byte order mark at the start is skipped."""
    first = True
    while line := file.readline(MAX_ROW_BYTES + 1):
        too_long = len(line) > MAX_ROW_BYTES
        while too_long and not line.endswith(b"\n") and (line := file.readline(_CHUNK_BYTES)):
            pass
        yield None if too_long else line.removeprefix(codecs.BOM_UTF8) if first else line
        first = False


def _takes_any(_path: Path) -> bool:
    """What is no row is reported line by line."""
    return True


def _rows(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, raw in enumerate(raw_lines(file), start=1):
            if raw is None:
                yield RawRow(number, {}, _too_long())
            elif raw.strip():
                yield _decoded(number, raw)


def _positions(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        begin = 0
        for number, raw in enumerate(raw_lines(file), start=1):
            if raw is None or raw.strip():
                yield number, begin
            begin = file.tell()


def _row_at(file: BinaryIO, number: int, position: int) -> RawRow:
    file.seek(position)
    raw = next(raw_lines(file), b"")
    return RawRow(number, {}, _too_long()) if raw is None else _decoded(number, raw)


def _count(path: Path) -> int:
    """Blank lines included; the last need not end."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _too_long() -> str:
    return f"the line is longer than {MAX_ROW_BYTES >> 20} MiB"


def _decoded(number: int, raw: bytes) -> RawRow:
    try:
        row = _DECODER.decode(raw.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError:
        return RawRow(number, {}, "not UTF-8 text")
    except json.JSONDecodeError as error:
        return RawRow(number, {}, f"not JSON: {complaint(error)}")
    except RecursionError:
        return RawRow(number, {}, "not JSON: nested too deeply")
    except DuplicateKey as error:
        return RawRow(number, {}, f"not JSON: {error}")
    except ValueError:
        # The only other one json raises: Python refuses to read a number of thousands of digits.
        return RawRow(number, {}, "not JSON: a number is too long")
    return RawRow(number, row) if isinstance(row, dict) else RawRow(number, {}, "not a JSON object")


READER = Reader(
    name="JSONL",
    suffixes=(".jsonl",),
    unit="line",
    recognises=_takes_any,
    rows=_rows,
    count=_count,
    positions=_positions,
    row_at=_row_at,
)
