"""A JSON array of rows, as many tools write one, read element by element. Memory is bounded by the longest element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.common.errors import BadInput
from pipeline.common.strict_json import DuplicateKey, complaint, keys_once
from pipeline.dataset.readers.jsonl import raw_lines
from pipeline.dataset.readers.reader import MAX_ROW_BYTES, RawRow, Reader

_HEAD_BYTES = 1 << 12
_CHUNK_BYTES = 1 << 16
_SPACE = re.compile(r"[ \t\n\r]*")
_STRICT = json.JSONDecoder(object_pairs_hook=keys_once)
# Only finds where an element ends that the strict one refuses.
_LENIENT = json.JSONDecoder(strict=False, parse_int=float)
# A literal or an escape that the end of a buffer cuts in two is complained of this near to it.
_CUT_CHARACTERS = 16


class _DamagedArray(ValueError):
    """What follows can't be told apart. `line` counts from 1, in the file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


@dataclass(frozen=True, slots=True)
class _Element:
    """One element: the byte it begins at, its value, and why it can't be a row ("" where nothing speaks against it)."""

    position: int
    value: Any
    problem: str = ""


def _elements(file: BinaryIO, longest: int) -> Iterator[_Element]:
    """The elements of the array in `file`, from its start.

    Args:
        longest: characters of an element that is still read.

    Raises:
        _DamagedArray: the array breaks off, something in it is no JSON, or an element is too long.
    """
    window = _Window(file, longest)
    window.skip("\ufeff")
    window.expect("[")
    if window.next_character() != "]":
        yield window.element()
        while window.next_character() == ",":
            window.expect(",")
            window.next_character()
            yield window.element()
    window.expect("]")
    if window.next_character():
        raise _DamagedArray(window.line, "something follows the end of the JSON array")


class _Window:
    """A piece of the file as text, moved along. Bytes that are not UTF-8 are kept as lone surrogates."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self._file, self._longest = file, longest
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._ended = "", 0, False
        self._position = file.tell()
        self.line = 1

    def next_character(self) -> str:
        """The next one that is no white space, not taken; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._move(space.end() - self._at if space else 0)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, character: str) -> None:
        """Take it where it stands."""
        if self.next_character() == character:
            self._move(1)

    def expect(self, character: str) -> None:
        """Take it, or raise `_DamagedArray`."""
        found = self.next_character()
        if found != character:
            raise _DamagedArray(self.line, f"{character!r} is missing before {found!r}" if found else "the JSON array breaks off")
        self._move(1)

    def element(self) -> _Element:
        """Take the value that begins here. Raises `_DamagedArray` when its end can't be found."""
        while True:
            try:
                value, end, problem = self._decoded()
                # A number may go on behind the edge.
                if end < len(self._text) or not self._more():
                    return self._taken(value, end, problem)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _CUT_CHARACTERS
                if not cut or not self._more():
                    line = self.line + self._text.count("\n", self._at, error.pos)
                    breaks_off = error.msg.startswith("Unterminated") or error.pos >= len(self._text)
                    raise _DamagedArray(
                        line, "the JSON array breaks off" if breaks_off else f"not JSON: {complaint(error)}"
                    ) from error
            except RecursionError as error:
                raise _DamagedArray(self.line, "not JSON: nested too deeply") from error
            if len(self._text) - self._at > self._longest:
                raise _DamagedArray(self.line, f"an element is longer than {self._longest >> 20} MiB, or its end is missing")

    def _decoded(self) -> tuple[Any, int, str]:
        """(value, where it ends, what is wrong with it)."""
        try:
            return *_STRICT.raw_decode(self._text, self._at), ""
        except DuplicateKey as error:
            problem = f"not JSON: {error}"
        except json.JSONDecodeError as error:
            problem = f"not JSON: {complaint(error)}"
        except ValueError:
            problem = "not JSON: a number is too long"
        return *_LENIENT.raw_decode(self._text, self._at), problem

    def _taken(self, value: Any, end: int, problem: str) -> _Element:
        position = self._position
        try:
            self._text[self._at : end].encode()
        except UnicodeEncodeError:
            problem = "not UTF-8 text"
        self._move(end - self._at)
        return _Element(position, value, problem)

    def _move(self, characters: int) -> None:
        passed = self._text[self._at : self._at + characters]
        self._at += characters
        self._position += len(passed.encode("utf-8", "surrogateescape"))
        self.line += passed.count("\n")

    def _more(self) -> bool:
        """Read on, twice as much each time an element needs more; False at the end of the file."""
        if self._ended:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        chunk = self._file.read(max(_CHUNK_BYTES, len(self._text)))
        self._ended = not chunk
        self._text += self._decoder.decode(chunk, final=self._ended)
        return True


def _recognises(path: Path) -> bool:
    """Whether the whole file is one array of objects (or the empty array) rather than one row a line."""
    with path.open("rb") as file:
        if not _begins_an_array(file.read(_HEAD_BYTES)):
            return False
        file.seek(0)
        lines = (raw for raw in raw_lines(file) if raw is None or raw.strip())
        first = next(lines, None)
        return first is None or not _is_whole(first) or next(lines, b"") == b""


def _begins_an_array(head: bytes) -> bool:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"]")


def _is_whole(raw: bytes) -> bool:
    """A line that is JSON by itself: when others follow, each line is a list, which no row is written as."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def _rows(path: Path) -> Iterator[RawRow]:
    return (_row(number, element) for number, element in enumerate(_elements_of(path), start=1))


def _positions(path: Path) -> Iterator[tuple[int, int]]:
    return ((number, element.position) for number, element in enumerate(_elements_of(path), start=1))


def _row_at(file: BinaryIO, number: int, position: int) -> RawRow:
    file.seek(position)
    return _row(number, _Window(file, MAX_ROW_BYTES).element())


def _count(path: Path) -> int:
    return sum(1 for _ in _elements_of(path))


def _elements_of(path: Path) -> Iterator[_Element]:
    with path.open("rb") as file:
        try:
            yield from _elements(file, MAX_ROW_BYTES)
        except _DamagedArray as error:
            hint = "mend the file there, or write one JSON object a line: what follows can't be told apart"
            raise BadInput(f"{path}: {error}", hint) from error


def _row(number: int, element: _Element) -> RawRow:
    if element.problem:
        return RawRow(number, {}, element.problem)
    return RawRow(number, element.value) if isinstance(element.value, dict) else RawRow(number, {}, "not a JSON object")


READER = Reader(
    name="JSON",
    suffixes=(".json",),
    unit="row",
    recognises=_recognises,
    rows=_rows,
    count=_count,
    positions=_positions,
    row_at=_row_at,
    must_be_whole=True,
    notice="is one JSON array, not one row a line",
)
