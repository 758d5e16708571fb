"""A JSON object that holds the rows in an array under one of its keys, beside what it says of them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.dataset.readers import json_values
from pipeline.dataset.readers.json_values import head_of
from pipeline.dataset.readers.json_window import Element, Window
from pipeline.dataset.readers.jsonl import key_of_messages
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, Reader, text_access

# An object with one of these is a row itself, whatever lists it has.
_OF_A_ROW = frozenset(
    {"messages", "conversations", "conversation", "instruction", "output", "prompt", "completion", "question", "answer", "query",
     "response", "text", "chosen", "rejected"}
)  # fmt: skip
_LISTS_OF_A_ROW = frozenset({"tools", "functions", "tool_calls", "replies", "images", "files"})
_MOST_KEYS = 1000


class _Key:
    """Where the walk through the object is: the key, and whether the array of rows begins here."""

    def __init__(self, name: str, *, holds_rows: bool) -> None:
        self.name, self.holds_rows = name, holds_rows


def _walk(window: Window) -> Iterator[_Key]:
    """Each key of the object at the start, its value passed over unless it holds rows: these are then the caller's to take."""
    window.skip("\ufeff")
    if not window.skip("{"):
        return
    for _ in range(_MOST_KEYS):
        window.skip(",")
        if window.next_character() != '"':
            return
        name = window.element().value
        if not isinstance(name, str) or not window.skip(":"):
            return
        holds = window.next_character() == "[" and name not in _LISTS_OF_A_ROW and _holds_rows(window)
        yield _Key(name, holds_rows=holds)
        if not holds and window.element().problem:
            return


def _holds_rows(window: Window) -> bool:
    """Whether the array that begins here is of objects that are no messages of a conversation."""
    first = window.first_within()
    return isinstance(first, dict) and bool(first) and not key_of_messages(first)


def _elements(file: BinaryIO) -> Iterator[Element]:
    window = Window(file, MAX_ROW_BYTES)
    for key in _walk(window):
        if key.holds_rows:
            yield from json_values.in_array(window)


def _recognises(path: DataFile) -> bool:
    if not head_of(path).startswith(b"{") or _is_a_row(path):
        return False
    with path.open("rb") as file:
        return any(key.holds_rows for key in _walk(Window(file, MAX_ROW_BYTES)))


def _is_a_row(path: DataFile) -> bool:
    """Whether the first object has a row's keys, or another object follows it. One too long for a row is none."""
    with path.open("rb") as file:
        window = Window(file, MAX_ROW_BYTES, "JSON object")
        window.skip("\ufeff")
        window.next_character()
        value = window.element().value
        return isinstance(value, dict) and (not _OF_A_ROW.isdisjoint(value) or window.next_character() != "")


def _notice(path: DataFile) -> str:
    holding, others = list[str](), list[str]()
    with path.open("rb") as file:
        window = Window(file, MAX_ROW_BYTES)
        for key in _walk(window):
            (holding if key.holds_rows else others).append(json.dumps(key.name, ensure_ascii=False))
            if key.holds_rows:
                deque(json_values.in_array(window), maxlen=0)
    beside = f" (what it says beside them, under {', '.join(others[:5])}, is not used)" if others else ""
    return f"is a JSON object that holds its rows under {', '.join(holding)}{beside}"


READER = Reader(
    name="JSON object with rows in it",
    suffixes=(),
    unit="row",
    recognises=_recognises,
    rows=json_values.rows(_elements),
    count=json_values.count(_elements),
    positions=json_values.positions(_elements),
    access=text_access(json_values.read_one),
    notice=_notice,
)
