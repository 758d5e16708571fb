"""JSON lines: each line is a row or a reason why it is none. Memory is bounded by the longest row."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.common.strict_json import DuplicateKey, complaint, keys_once
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, RawRow, Reader, text_access

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


def count_lines(path: DataFile) -> int:
    """Blank lines included; the last need not end."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def too_long() -> str:
    """Why a line is no row that can't be held."""
    return f"the line is longer than {MAX_ROW_BYTES >> 20} MiB"


def as_row(number: int, value: Any) -> RawRow:
    """A JSON value as a row: an object, or the bare list of a conversation's messages."""
    if isinstance(value, dict):
        return RawRow(number, value)
    if isinstance(value, list) and value and (key := key_of_messages(value[0])):
        return RawRow(number, {key: value})
    return RawRow(number, {}, "not a JSON object")


def key_of_messages(first: Any) -> str:
    """The key under which rows have a list that begins so, where it is one of messages; else "".

    A message of OpenAssistant's flat export is a row of its own: it names its parent.
    """
    if not isinstance(first, dict) or "parent_id" in first or "message_id" in first:
        return ""
    if "role" in first and ("content" in first or "tool_calls" in first):
        return "messages"
    return "conversations" if "from" in first and "value" in first else ""


def _takes_any(_path: DataFile) -> bool:
    """What is no row is reported line by line."""
    return True


def _rows(path: DataFile) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, raw in enumerate(raw_lines(file), start=1):
            if raw is None:
                yield RawRow(number, {}, too_long())
            elif raw.strip():
                yield _decoded(number, raw)


def _positions(path: DataFile) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        begin = 0
        for number, raw in enumerate(raw_lines(file), start=1):
            if raw is None or raw.strip():
                yield number, begin
            begin = file.tell()


def _read(file: BinaryIO, number: int) -> RawRow:
    raw = next(raw_lines(file), b"")
    return RawRow(number, {}, too_long()) if raw is None else _decoded(number, raw)


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
    return RawRow(number, row) if type(row) is dict else as_row(number, row)


READER = Reader(
    name="JSONL",
    suffixes=(".jsonl", ".ndjson"),
    unit="line",
    recognises=_takes_any,
    rows=_rows,
    count=count_lines,
    positions=_positions,
    access=text_access(_read),
)
