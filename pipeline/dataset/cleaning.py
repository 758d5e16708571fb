"""Cleaning a conversation and telling whether it was seen before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Message, Said, as_conversation, check_turns

TRIMMED = "white space or line ends tidied"
EMPTY_SYSTEM = "empty system message removed"
UNANSWERED = "turns after the last answer removed"


def clean(messages: Sequence[Message]) -> tuple[list[Message], set[str]]:
    """The conversation as it is trained on, and what was changed.

    Line ends become `\\n`, white space around each message goes, so do an empty system message and what follows the last
    answer (nothing in it would be trained).

    Raises:
        BadInput: no conversation to train on is left; the message is fit for a report.
    """
    changes = set()
    tidy = [_tidied(message) for message in messages]
    if any(new != old for new, old in zip(tidy, messages, strict=True)):
        changes.add(TRIMMED)
    if tidy and tidy[0]["role"] == "system" and not tidy[0]["content"]:
        tidy = tidy[1:]
        changes.add(EMPTY_SYSTEM)
    check_turns(tidy)
    answers = [position for position, message in enumerate(tidy) if message["role"] == "assistant"]
    if not answers:
        raise BadInput("there is no assistant turn to train on")
    if answers[-1] < len(tidy) - 1:
        tidy = tidy[: answers[-1] + 1]
        changes.add(UNANSWERED)
    return tidy, changes


def clean_text(text: str) -> tuple[str, set[str]]:
    """A text as it is trained on, and what was changed: its line ends. Raises `BadInput` as `clean` does."""
    if "\0" in text:
        raise BadInput("the text holds a NUL character")
    if not text.strip():
        raise BadInput("the text is empty")
    tidy = text.replace("\r\n", "\n").replace("\r", "\n")
    return tidy, {TRIMMED} if tidy != text else set()


def _tidied(message: Message) -> Message:
    content = _tidy(message["content"])
    if len(message) == 2:
        return Message(role=message["role"], content=content)
    tidied: Message = {**message, "content": content}
    if "reasoning_content" in message:
        tidied["reasoning_content"] = _tidy(message["reasoning_content"])
    if "\\u0000" in json.dumps(tidied):
        raise BadInput("a message holds a NUL character")
    return tidied


def _tidy(content: str) -> str:
    if "\0" in content:
        raise BadInput("a message holds a NUL character")
    return content.replace("\r\n", "\n").replace("\r", "\n").strip()


def digest(said: Said) -> bytes:
    """Sixteen bytes that two conversations share only when they are the same, turn by turn."""
    conversation = as_conversation(said)
    if conversation.text:
        return hashlib.blake2b(conversation.text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"text").digest()
    turns: list[Any] = [_turn(message) for message in conversation.messages]
    if conversation.tools or conversation.arguments:
        turns.append({"tools": conversation.tools, "arguments": dict(conversation.arguments)})
    return hashlib.blake2b(json.dumps(turns, sort_keys=True).encode(), digest_size=16).digest()


def _turn(message: Message) -> list[Any]:
    turn: list[Any] = [message["role"], message["content"]]
    return turn if len(message) == 2 else [*turn, {key: message[key] for key in message if key not in ("role", "content")}]  # type: ignore[literal-required]
