"""Text that a template may place but not look into; what it asks about it all the same is written down.

A chat template run on `Traced` contents tells what it does with any contents of the same roles: where it puts them, and which of
their properties it asked for on the way ("does it hold </think>?"). Each question is answered with no and kept as a condition;
contents for which all answers are no take the same way through the template. What can't be put as such a question ends the
tracing with `ContentDependent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, SupportsIndex

Piece = str | int
"""Text of the template's own, or the number of the message whose content stands there."""


class ContentDependent(Exception):
    """The template does something with a message's content that can't be followed."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a content has to be: one for which the answer to `question` is no."""

    message: int
    question: str
    argument: Any

    def holds(self, content: str) -> bool:
        return not _QUESTIONS[self.question](content, self.argument)


_QUESTIONS: dict[str, Callable[[str, Any], bool]] = {
    "contains": lambda content, text: text in content,
    "startswith": lambda content, text: content.startswith(text),
    "endswith": lambda content, text: content.endswith(text),
    "equals": lambda content, text: content == text,
    "lstrip": lambda content, characters: content.lstrip(characters) != content,
    "rstrip": lambda content, characters: content.rstrip(characters) != content,
}


class Trace:
    """One run of a template.

    Attributes:
        stand_ins: what stands in the place of each message's content wherever code takes the plain value of a `Traced`.
        conditions: what the template asked so far.
    """

    def __init__(self, stand_ins: Sequence[str]) -> None:
        self.stand_ins = stand_ins
        self.conditions: set[Condition] = set()

    def content(self, message: int) -> Traced:
        return self.joined([message])

    def joined(self, pieces: Iterable[Piece]) -> Traced:
        merged: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, str) and merged and isinstance(merged[-1], str):
                merged[-1] += piece
            elif piece != "":
                merged.append(piece)
        text = Traced("".join(piece if isinstance(piece, str) else self.stand_ins[piece] for piece in merged))
        text.pieces, text.trace = tuple(merged), self
        return text


def pieces_of(text: str) -> tuple[Piece, ...]:
    """What `text` is made of."""
    return text.pieces if isinstance(text, Traced) else (text,)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ContentDependent


class Traced(str):
    """Literals and contents of messages, to be used by a template where it would have a string. Made by `Trace`.

    Every method of `str` that is not given here raises `ContentDependent`.
    """

    pieces: tuple[Piece, ...]
    trace: Trace

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return self.trace.joined([*self.pieces, *pieces_of(other)]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return self.trace.joined([*pieces_of(other), *self.pieces]) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        return bool(self.pieces)  # a message's content is never empty

    def __eq__(self, other: object) -> bool:
        if other is self or not isinstance(other, str):
            return other is self
        return self._answer("equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise ContentDependent

    def __contains__(self, text: Any) -> bool:
        found = any(text in piece for piece in self.pieces if isinstance(piece, str))
        return found or self._answer("contains", text)

    def startswith(self, text: Any, *limits: SupportsIndex | None) -> bool:
        return self._at_an_end(self.pieces[:1], "startswith", text, limits)

    def endswith(self, text: Any, *limits: SupportsIndex | None) -> bool:
        return self._at_an_end(self.pieces[-1:], "endswith", text, limits)

    def split(self, separator: str | None = None, *limit: SupportsIndex) -> list[str]:
        if separator is None or limit or separator in self:
            raise ContentDependent
        return [self]

    def strip(self, characters: str | None = None, /) -> str:
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None, /) -> str:
        left = list(self.pieces)
        while left and not self._stays(left[0], "lstrip", characters):
            left[0] = str(left[0]).lstrip(characters)
            if left[0]:
                break
            del left[0]
        return self.trace.joined(left)

    def rstrip(self, characters: str | None = None, /) -> str:
        left = list(self.pieces)
        while left and not self._stays(left[-1], "rstrip", characters):
            left[-1] = str(left[-1]).rstrip(characters)
            if left[-1]:
                break
            del left[-1]
        return self.trace.joined(left)

    def _stays(self, piece: Piece, question: str, characters: str | None) -> bool:
        """Whether a strip stops at this piece: at a content always, on condition."""
        if isinstance(characters, Traced):
            raise ContentDependent
        if isinstance(piece, int):
            self.trace.conditions.add(Condition(piece, question, characters))
        return isinstance(piece, int)

    def _at_an_end(self, last: tuple[Piece, ...], question: str, text: Any, limits: tuple[Any, ...]) -> bool:
        if limits or not isinstance(text, str):
            raise ContentDependent
        if last and isinstance(last[0], str) and len(last[0]) >= len(text):
            return _QUESTIONS[question](last[0], text)
        return self._answer(question, text)

    def _answer(self, question: str, argument: str) -> bool:
        """No, on condition; of a message's whole content only."""
        if len(self.pieces) != 1 or not isinstance(self.pieces[0], int):
            raise ContentDependent
        # Raises as well where the argument is a content: that has no hash.
        self.trace.conditions.add(Condition(self.pieces[0], question, argument))
        return False


# What every object has to have is left: it tells nothing of the characters.
_HARMLESS = {
    "__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getstate__", "__init__", "__init_subclass__",
    "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__", "__subclasshook__",
}  # fmt: skip
for _name in set(dir(str)) - _HARMLESS - set(vars(Traced)):
    setattr(Traced, _name, _refuse)
