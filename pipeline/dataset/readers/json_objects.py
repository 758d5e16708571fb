"""JSON objects one after the other, whatever stands between them: printed over several lines, or without line ends at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from pipeline.dataset.readers import json_values
from pipeline.dataset.readers.json_array import is_conversation
from pipeline.dataset.readers.json_values import head_of, is_whole
from pipeline.dataset.readers.json_window import Element, Window
from pipeline.dataset.readers.jsonl import raw_lines
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, DataFile, Reader, text_access


def _elements(file: BinaryIO) -> Iterator[Element]:
    window = Window(file, MAX_ROW_BYTES, "JSON object")
    window.skip("\ufeff")
    while window.next_character():
        if not window.skip(","):
            yield window.element()


def _recognises(path: DataFile) -> bool:
    """Whether the first value ends on another line than it begins on, or another one begins on its line."""
    head = head_of(path)
    if head.startswith(b"["):
        return is_conversation(path) and not _is_a_line(path)
    if not head.startswith(b"{") or _is_a_line(path):
        return False
    with path.open("rb") as file:
        window = Window(file, MAX_ROW_BYTES)
        window.skip("\ufeff")
        window.next_character()
        line = window.line
        element = window.element()
        if not isinstance(element.value, dict):
            return False
        # What follows on the next line makes no objects of lines.
        return window.line > line or (window.next_character() in ("{", ",") and window.line == line)


def _is_a_line(path: DataFile) -> bool:
    """Whether the first line is JSON by itself, or too long to be held."""
    with path.open("rb") as file:
        first = next((raw for raw in raw_lines(file) if raw is None or raw.strip()), None)
    return first is None or is_whole(first)


READER = Reader(
    name="JSON objects",
    suffixes=(),
    unit="row",
    recognises=_recognises,
    rows=json_values.rows(_elements),
    count=json_values.count(_elements),
    positions=json_values.positions(_elements),
    access=text_access(json_values.read_one),
    notice=lambda path: "holds JSON objects one after the other, not one a line",
)
