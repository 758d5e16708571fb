"""A JSON array of rows, as many tools write one, read element by element; several arrays one after the other are read as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.dataset.readers import json_values
from pipeline.dataset.readers.json_values import head_of, is_whole
from pipeline.dataset.readers.json_window import Element, Window
from pipeline.dataset.readers.jsonl import key_of_messages, raw_lines
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, Reader, text_access


def _elements(file: BinaryIO) -> Iterator[Element]:
    window = Window(file, MAX_ROW_BYTES)
    window.skip("\ufeff")
    while character := window.next_character():
        if character == "[":
            yield from json_values.in_array(window)
        elif not window.skip(","):
            element = window.element()
            follows = f"line {window.line}: something follows the end of the JSON array"
            yield element if isinstance(element.value, dict) else Element(element.position, None, element.problem or follows)


def _recognises(path: DataFile) -> bool:
    """Whether the file is an array of objects (or the empty array) rather than one row a line."""
    head = head_of(path)
    if not (head.startswith(b"[") and head[1:].lstrip()[:1] in (b"{", b"]")) or is_conversation(path):
        return False
    with path.open("rb") as file:
        lines = (raw for raw in raw_lines(file) if raw is None or raw.strip())
        first = next(lines, None)
        # When others follow a line that is JSON by itself, each line is a list, which no row is written as.
        return first is None or not is_whole(first) or not (next(lines, b"") or b"").lstrip().startswith((b"[", b"{"))


def is_conversation(path: DataFile) -> bool:
    """Whether the array's elements are messages: it is then one row."""
    with path.open("rb") as file:
        window = Window(file, MAX_ROW_BYTES)
        window.skip("\ufeff")
        return window.skip("[") and window.next_character() == "{" and bool(key_of_messages(window.element().value))


READER = Reader(
    name="JSON",
    suffixes=(".json",),
    unit="row",
    recognises=_recognises,
    rows=json_values.rows(_elements),
    count=json_values.count(_elements),
    positions=json_values.positions(_elements),
    access=text_access(json_values.read_one),
    notice=lambda path: "is one JSON array, not one row a line",
)
