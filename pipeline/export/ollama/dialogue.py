"""What a chat template writes around the messages, as a table: found by asking it, with made-up contents.

Most published templates write a text before a message that depends on nothing but who speaks and who spoke before. One that does
is known from a few renderings, and is then compared with the template itself on longer conversations. Some (Mistral's) put the
system message before the last question; that is the one other order known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Render = Callable[[Sequence[Mapping[str, str]]], str | None]
"""Messages to the text after which the model answers; None where the template refuses them."""

ROLES = ("system", "user", "assistant")
NOBODY = ""  # before the first message
_MOST_TURNS = 4


class NotExpressed(Exception):
    """The template does not write like this; why, in a sentence."""


@dataclass(frozen=True)
class Dialogue:
    """A template as a table.

    Attributes:
        before: (who spoke before, who speaks) -> what stands before the contents.
        after: who spoke last -> what stands behind the contents, up to where the model answers.
        after_system: where the system message stands before the last question's contents: what is written between the two;
            None where it stands where it was said.
    """

    before: Mapping[tuple[str, str], str]
    after: Mapping[str, str] = field(default_factory=dict)
    after_system: str | None = None

    def text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """What the template writes. Raises KeyError for an order of roles that it refuses."""
        system = [str(message["content"]) for message in messages if message["role"] == "system"]
        shown = [message for message in messages if self.after_system is None or message["role"] != "system"]
        written, last = "", NOBODY
        for number, message in enumerate(shown):
            written += self.before[last, message["role"]]
            if self.after_system is not None and system and number == len(shown) - 1 and message["role"] == "user":
                written += "\n\n".join(system) + self.after_system
            written += message["content"]
            last = message["role"]
        return written if last == "assistant" else written + self.after[last]


def conversation(roles: Sequence[str]) -> list[dict[str, str]]:
    """Messages with contents that no template writes by itself."""
    return [{"role": role, "content": f"Zq{number}{role}zQ"} for number, role in enumerate(roles)]


def learn(render: Render) -> Dialogue:
    """The table of a template.

    Raises:
        NotExpressed: it writes otherwise, or there is no question that it renders.
    """
    after_system = _after_system(render)
    found = Dialogue({}, {}, after_system)
    for roles in _ORDERS:
        if after_system is None or "system" not in roles:
            found = _with(found, roles, render)
    if (NOBODY, "user") not in found.before or "user" not in found.after:
        raise NotExpressed("it renders no question by itself")
    for roles in _ORDERS:
        if not _holds(found, roles, render):
            raise NotExpressed(f"what it writes of {', '.join(roles)} depends on more than who speaks and who spoke before")
    for roles in _ODD_ORDERS:  # where the table has no place for one, it is refused when it comes
        more = _with(found, roles, render)
        if all(_holds(more, each, render) for each in (*_ORDERS, roles)):
            found = more
    return found


# From one question to some, with a system message and without.
_TURNS = [["user", "assistant"] * number + ["user"] for number in range(_MOST_TURNS)]
_ORDERS = [*_TURNS, *(["system", *each] for each in _TURNS)]
_ODD_ORDERS = [["system"], ["user", "assistant", "system", "user"], ["user", "system", "user"], ["assistant", "user"]]


def _holds(found: Dialogue, roles: Sequence[str], render: Render) -> bool:
    """Whether it writes what the template writes; an order that the template refuses proves nothing."""
    text = render(conversation(roles))
    return text is None or _written(found, roles) == text


def _written(found: Dialogue, roles: Sequence[str]) -> str | None:
    try:
        return found.text(conversation(roles))
    except KeyError:
        return None


def _with(found: Dialogue, roles: Sequence[str], render: Render) -> Dialogue:
    """The table with what one more rendering shows, where nothing stands yet."""
    text = render(conversation(roles))
    if text is None:
        return found
    before, after = dict(found.before), dict(found.after)
    at, last = 0, NOBODY
    for message in conversation(roles):
        place = text.find(message["content"], at)
        if place < 0 or text.count(message["content"]) != 1:
            return found  # what is compared afterwards tells
        before.setdefault((last, message["role"]), text[at:place])
        at, last = place + len(message["content"]), message["role"]
    after.setdefault(last, text[at:])
    return Dialogue(before, after, found.after_system)


def _after_system(render: Render) -> str | None:
    """What stands between the system message and the last question, where these are neighbours in a longer conversation."""
    messages = conversation(["system", "user", "assistant", "user"])
    text = render(messages)
    system, first, _, last = (message["content"] for message in messages)
    if text is None or any(text.count(each) != 1 for each in (system, first, last)):
        return None
    if not text.index(first) < text.index(system) < text.index(last):
        return None
    return text[text.index(system) + len(system) : text.index(last)]
