"""JSON values of a file one after the other, each no longer than a row may be, and the next whole one behind a damaged one."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.common.strict_json import DuplicateKey, complaint, keys_once

_CHUNK_BYTES = 1 << 16
_SPACE = re.compile(r"[ \t\n\r]*")
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.){0,200}")\s*:')
_STRICT = json.JSONDecoder(object_pairs_hook=keys_once)
# Only finds where a value ends that the strict one refuses.
_LENIENT = json.JSONDecoder(strict=False, parse_int=float)
# A literal or an escape that the end of a buffer cuts in two is complained of this near to it.
_CUT_CHARACTERS = 16
# Behind a damaged value the next is looked for by its beginning, which may stand across the edge of a buffer.
_BEGINNING_CHARACTERS = 1 << 12
# What nests and what un-nests, and texts, in which a bracket is a letter.
_NESTS = re.compile(r'[\[{]|[\]}]|"(?:[^"\\]|\\.)*"')
# Less deep than any decoder goes: what stands before is within the value that was too deep, so no row begins there.
_SURELY_WITHIN = 500


class _Damaged(ValueError):
    """The value that begins here has no end.

    Args:
        line: of the damage, from 1, in the file.
        within: characters from the value's beginning that are surely its own.
    """

    def __init__(self, line: int, reason: str, within: int = 1) -> None:
        super().__init__(f"line {line}: {reason}")
        self.within = within


@dataclass(frozen=True, slots=True)
class Element:
    """One value: the byte it begins at, what it is, and why it can't be a row ("" where nothing speaks against it)."""

    position: int
    value: Any
    problem: str = ""


class Window:
    """A piece of the file as text, moved along. Bytes that are not UTF-8 are kept as lone surrogates.

    Args:
        longest: characters of a value that is still read.
        what: what the values stand in, for the reason why one breaks off.

    Attributes:
        line: of the next character, from 1.
        position: of the next character, in bytes.
        broke_off: the last value was damaged, and none that begins alike stood behind it.
    """

    def __init__(self, file: BinaryIO, longest: int, what: str = "JSON array") -> None:
        self._file, self._longest, self._what = file, longest, what
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._ended = "", 0, False
        self._first_key = ""
        self.position = file.tell()
        self.line = 1
        self.broke_off = False

    def next_character(self) -> str:
        """The next one that is no white space, not taken; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._move(space.end() - self._at if space else 0)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, character: str) -> bool:
        """Take it where it stands; whether it does."""
        found = self.next_character() == character
        self._move(int(found))
        return found

    def element(self) -> Element:
        """Take the value that begins here; where its end can't be found, what stands before the next one that begins alike."""
        position = self.position
        try:
            return self._element()
        except _Damaged as damage:
            problem = str(damage)
            self._to_the_next(damage.within)
            return Element(position, None, problem)

    def first_within(self) -> Any:
        """The first object of the array that begins here, nothing taken; None where there is none to be read."""
        while True:
            begin = _SPACE.match(self._text, self._at + 1)
            at = begin.end() if begin else self._at + 1
            try:
                if self._text[at : at + 1] not in ("{", ""):
                    return None
                return _LENIENT.raw_decode(self._text, at)[0]
            except RecursionError:
                return None
            except ValueError:
                if len(self._text) - self._at > self._longest or not self._more():
                    return None

    def _element(self) -> Element:
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
                    self.broke_off = error.msg.startswith("Unterminated") or error.pos >= len(self._text)
                    reason = f"the {self._what} breaks off" if self.broke_off else f"not JSON: {complaint(error)}"
                    raise _Damaged(line, reason) from error
            except RecursionError as error:
                raise _Damaged(self.line, "not JSON: nested too deeply", self._within()) from error
            if len(self._text) - self._at > self._longest:
                raise _Damaged(self.line, f"an element is longer than {self._longest >> 20} MiB, or its end is missing")

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

    def _taken(self, value: Any, end: int, problem: str) -> Element:
        position = self.position
        try:
            self._text[self._at : end].encode()
        except UnicodeEncodeError:
            problem = "not UTF-8 text"
        if not self._first_key and isinstance(value, dict) and (found := _FIRST_KEY.match(self._text, self._at)):
            self._first_key = found[1]
        self._move(end - self._at)
        return Element(position, value, problem)

    # ------------------------------------------------------------------------------------------------ behind damage

    def _within(self) -> int:
        """Characters of a value nested too deeply that no row begins in: else each is tried, down to the same depth."""
        depth = 0
        for found in _NESTS.finditer(self._text, self._at):
            depth += (found[0] in "[{") - (found[0] in "]}")
            if depth == _SURELY_WITHIN:
                return found.start() - self._at
        return 1

    def _to_the_next(self, within: int) -> None:
        """To where an object begins with the key that the others begin with, or to the end of the file.

        Args:
            within: characters from here in which it can't.
        """
        begins = self._beginning()
        self._move(within)
        while not (found := begins.search(self._text, self._at)):
            self._move(max(0, len(self._text) - self._at - _BEGINNING_CHARACTERS))
            if not self._more():
                self._move(len(self._text) - self._at)
                self.broke_off = True
                return
        self.broke_off = False
        self._move(found.start() - self._at)

    def _beginning(self) -> re.Pattern[str]:
        """How rows begin: with the first key of those that were read, or of the damaged one itself."""
        if not self._first_key and (found := _FIRST_KEY.match(self._text, self._at)):
            return re.compile(r"\{\s*" + re.escape(found[1]) + r"\s*:")
        return re.compile(r"\{\s*" + re.escape(self._first_key) + r"\s*:" if self._first_key else r"(?<=\n)\s*\{")

    def _move(self, characters: int) -> None:
        if not characters:
            return
        passed = self._text[self._at : self._at + characters]
        self._at += characters
        self.position += len(passed.encode("utf-8", "surrogateescape"))
        self.line += passed.count("\n")

    def _more(self) -> bool:
        """Read on, twice as much each time a value needs more; False at the end of the file."""
        if self._ended:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        chunk = self._file.read(max(_CHUNK_BYTES, len(self._text)))
        self._ended = not chunk
        self._text += self._decoder.decode(chunk, final=self._ended)
        return True
