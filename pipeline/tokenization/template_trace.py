"""Text that a template may place but not look into; what it asks about it all the same is written down.

A chat template run on `Traced` contents tells what it does with any contents of the same roles: where it puts them, and which of
their properties it asked for on the way ("does it hold </think>?"). Each question is answered with no and kept as a condition;
contents for which all answers are no take the same way through the template. What can't be put as such a question ends the
tracing with `ContentDependent`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, SupportsIndex

Piece = str | int
"""Text of the template's own, or the number of the message whose content stands there."""

OPENS, CLOSES = "\ue000", "\ue001"


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

    Args:
        stand_ins: what stands in the place of each message's content: text that begins with `OPENS`, ends with `CLOSES`, and
            is nowhere else.

    Attributes:
        conditions: what the template asked so far.
    """

    def __init__(self, stand_ins: Sequence[str]) -> None:
        self._message_of = {stand_in: number for number, stand_in in enumerate(stand_ins)}
        self._stand_in = re.compile(f"({'|'.join(map(re.escape, stand_ins))})")
        self.conditions: set[Condition] = set()

    def text(self, plain: str) -> Traced:
        text = Traced(plain)
        text.trace = self
        return text

    def pieces(self, text: str) -> list[Piece]:
        """What `text` is made of."""
        return [self._message_of.get(piece, piece) for piece in self._stand_in.split(text) if str.__len__(piece)]


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ContentDependent


class Traced(str):
    """Literals and contents of messages (their stand-ins), to be used by a template where it would have a string. See `Trace`.

    Every method of `str` that is not given here raises `ContentDependent`.
    """

    trace: Trace

    @property
    def _pieces(self) -> list[Piece]:
        return self.trace.pieces(self)

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return self.trace.text(str.__add__(self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return self.trace.text(str.__add__(other, self)) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        return str.__len__(self) > 0  # a message's content is never empty

    def __eq__(self, other: object) -> bool:
        if other is self or not isinstance(other, str):
            return other is self
        return self._answer("equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise ContentDependent

    def __contains__(self, text: Any) -> bool:
        found = any(text in piece for piece in self._pieces if isinstance(piece, str))
        return found or self._answer("contains", text)

    def startswith(self, text: Any, *limits: SupportsIndex | None) -> bool:
        return self._at_an_end(self._pieces[:1], "startswith", text, limits)

    def endswith(self, text: Any, *limits: SupportsIndex | None) -> bool:
        return self._at_an_end(self._pieces[-1:], "endswith", text, limits)

    def split(self, separator: str | None = None, *limit: SupportsIndex) -> list[str]:
        if separator is None or limit or separator in self:
            raise ContentDependent
        return [self]

    def strip(self, characters: str | None = None, /) -> str:
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None, /) -> str:
        return self._stripped(str.lstrip(self, characters), 0, "lstrip", characters)

    def rstrip(self, characters: str | None = None, /) -> str:
        return self._stripped(str.rstrip(self, characters), -1, "rstrip", characters)

    def _stripped(self, left: str, end: int, question: str, characters: str | None) -> str:
        """A strip stops at a content always, on condition."""
        if isinstance(characters, Traced) or (characters and (OPENS in characters or CLOSES in characters)):
            raise ContentDependent
        stripped = self.trace.text(left)
        if left and isinstance(last := stripped._pieces[end], int):
            self.trace.conditions.add(Condition(last, question, characters))
        return stripped

    def _at_an_end(self, last: list[Piece], question: str, text: Any, limits: tuple[Any, ...]) -> bool:
        if limits or not isinstance(text, str):
            raise ContentDependent
        if last and isinstance(last[0], str) and len(last[0]) >= len(text):
            return _QUESTIONS[question](last[0], text)
        return self._answer(question, text)

    def _answer(self, question: str, argument: str) -> bool:
        """No, on condition; of a message's whole content only."""
        pieces = self._pieces
        if len(pieces) != 1 or not isinstance(pieces[0], int):
            raise ContentDependent
        # Raises as well where the argument is a content: that has no hash.
        self.trace.conditions.add(Condition(pieces[0], question, argument))
        return False


# What every object has to have is left: it tells nothing of the characters.
_HARMLESS = {
    "__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getstate__", "__init__", "__init_subclass__",
    "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__", "__subclasshook__",
}  # fmt: skip
for _name in set(dir(str)) - _HARMLESS - set(vars(Traced)):
    setattr(Traced, _name, _refuse)
