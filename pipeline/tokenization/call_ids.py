"""Ids of tool calls as templates ask for them that take no others: nine letters and digits, as Mistral's do.

Data sets have them in every form, or none: a template that refuses theirs would lose the row for what says nothing. In the place
of an id that does not fit stands one made of it, the same in the call and in its result, and the same each time.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from pipeline.tokenization.messages import Message

LENGTH = 9
_LETTERS = string.ascii_letters + string.digits


def fits(messages: Sequence[Message]) -> bool:
    """Whether every id that stands in the messages is one already."""
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    ids = [call["id"] for call in calls if "id" in call]
    ids += [message["tool_call_id"] for message in messages if "tool_call_id" in message]
    return all(_fits(each) for each in ids)


def with_ids(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, each call and each result with an id; a result that names no call gets that of the next without one."""
    waiting, found = list[str](), list[Message]()
    for number, message in enumerate(messages):
        if calls := message.get("tool_calls"):
            named = [{**call, "id": _id_of(call, number, place)} for place, call in enumerate(calls)]
            waiting = [call["id"] for call in named]
            found.append({**message, "tool_calls": named})
        elif message["role"] == "tool":
            own = message.get("tool_call_id", "")
            fitting = _made_of(own) if own else (waiting[0] if waiting else _made_of(f"{number}"))
            waiting = [each for each in waiting if each != fitting]
            found.append({**message, "tool_call_id": fitting})
        else:
            found.append(message)
    return tuple(found)


def _id_of(call: dict[str, Any], number: int, place: int) -> str:
    if "id" in call:
        return _made_of(call["id"])
    return _made_of(json.dumps([number, place, call["function"]], sort_keys=True))


def _made_of(text: str) -> str:
    if _fits(text):
        return text
    number = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    letters = []
    for _ in range(LENGTH):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(letters)


def _fits(text: str) -> bool:
    return len(text) == LENGTH and text.isascii() and text.isalnum()
