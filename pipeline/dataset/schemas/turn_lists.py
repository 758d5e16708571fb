"""A list of turns, in the ways in which data sets write one: messages, pairs of a question with its answer, texts in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.dataset.schemas.fields import is_there, text_field
from pipeline.dataset.schemas.turns import USED, USED_OF_ASSISTANT, is_of_assistant, messages_of, said_key
from pipeline.tokenization.messages import Message

_ASKED = ("human", "user", "prompt", "instruction", "question", "query", "input")
_ANSWERED = ("assistant", "gpt", "bot", "completion", "response", "answer", "output")


def turns_of(turns: list[Any]) -> list[Message]:
    """The messages. Raises `BadInput` with the reason why one can't be one."""
    if len(turns) > 1 and all(isinstance(turn, str) for turn in turns):
        return [Message(role=("user", "assistant")[number % 2], content=text) for number, text in enumerate(turns)]
    found = list[Message]()
    for turn in turns:
        found += _of_pair(turn, *pair) if (pair := _pair(turn)) else messages_of(turn)
    return found


def are_turns(value: Any) -> bool:
    """Whether a list that stands under a name of its own is one of turns."""
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(turn, str) for turn in value):
        return len(value) > 1
    return all(isinstance(turn, dict) and (_pair(turn) or "role" in turn or "from" in turn) for turn in value)


def used_of(turn: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a turn that are used."""
    if pair := _pair(turn):
        return frozenset({*pair, "system"})
    return (USED_OF_ASSISTANT if is_of_assistant(turn) else USED) | {said_key(turn)}


def _pair(turn: Any) -> tuple[str, str] | None:
    """Under which keys a turn that is a question with its answer has them."""
    if not isinstance(turn, dict) or "role" in turn or "from" in turn:
        return None
    asked = next((key for key in _ASKED if isinstance(turn.get(key), str)), "")
    answered = next((key for key in _ANSWERED if isinstance(turn.get(key), str)), "")
    return (asked, answered) if asked and answered else None


def _of_pair(turn: Mapping[str, Any], asked: str, answered: str) -> list[Message]:
    system = [Message(role="system", content=text_field(turn, "system", "a turn"))] if is_there(turn.get("system")) else []
    return [*system, Message(role="user", content=turn[asked]), Message(role="assistant", content=turn[answered])]
