"""Reading a JSON array of rows, as many tools write one, element by element. Memory is bounded by the longest element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.common.strict_json import DuplicateKey, keys_once

_CHUNK_BYTES = 1 << 16
_SPACE = re.compile(r"[ \t\n\r]*")
_STRICT = json.JSONDecoder(object_pairs_hook=keys_once)
# Only finds where an element ends that the strict one refuses.
_LENIENT = json.JSONDecoder(strict=False, parse_int=float)
# A literal or an escape that the end of a buffer cuts in two is complained of this near to it.
_CUT_CHARACTERS = 16


class DamagedArray(ValueError):
    """What follows can't be told apart. `line` counts from 1, in the file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


@dataclass(frozen=True, slots=True)
class Element:
    """One element: the byte it begins at, its value, and why it can't be a row ("" where nothing speaks against it)."""

    position: int
    value: Any
    problem: str = ""


def looks_like_array(head: bytes) -> bool:
    """Whether a file that begins so is one array of objects (or the empty array)."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"]")


def words_of(error: json.JSONDecodeError) -> str:
    """What is wrong, without the place that its last words announce: reasons are counted, each place on its own is not."""
    return error.msg.removesuffix(" at").removesuffix(" starting")


def elements(file: BinaryIO, longest: int) -> Iterator[Element]:
    """The elements of the array in `file`, from its start.

    Args:
        longest: characters of an element that is still read.

    Raises:
        DamagedArray: the array breaks off, something in it is no JSON, or an element is too long.
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
        raise DamagedArray(window.line, "something follows the end of the JSON array")


def element_at(file: BinaryIO, position: int, longest: int) -> Element:
    """The element that begins at a position told by `elements`."""
    file.seek(position)
    return _Window(file, longest).element()


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
        """Take it, or raise `DamagedArray`."""
        found = self.next_character()
        if found != character:
            raise DamagedArray(self.line, f"{character!r} is missing before {found!r}" if found else "the JSON array breaks off")
        self._move(1)

    def element(self) -> Element:
        """Take the value that begins here. Raises `DamagedArray` when its end can't be found."""
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
                    raise DamagedArray(
                        line, "the JSON array breaks off" if breaks_off else f"not JSON: {words_of(error)}"
                    ) from error
            except RecursionError as error:
                raise DamagedArray(self.line, "not JSON: nested too deeply") from error
            if len(self._text) - self._at > self._longest:
                raise DamagedArray(self.line, f"an element is longer than {self._longest >> 20} MiB, or its end is missing")

    def _decoded(self) -> tuple[Any, int, str]:
        """(value, where it ends, what is wrong with it)."""
        try:
            return *_STRICT.raw_decode(self._text, self._at), ""
        except DuplicateKey as error:
            problem = f"not JSON: {error}"
        except json.JSONDecodeError as error:
            problem = f"not JSON: {words_of(error)}"
        except ValueError:
            problem = "not JSON: a number is too long"
        return *_LENIENT.raw_decode(self._text, self._at), problem

    def _taken(self, value: Any, end: int, problem: str) -> Element:
        position = self._position
        try:
            self._text[self._at : end].encode()
        except UnicodeEncodeError:
            problem = "not UTF-8 text"
        self._move(end - self._at)
        return Element(position, value, problem)

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
