"""Cleaning a conversation and telling whether it was seen before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Conversation, Message, Said, as_conversation, check_turns

TRIMMED = "white space or line ends tidied"
EMPTY_SYSTEM = "empty system message removed"
UNANSWERED = "turns after the last answer removed"
# As `json.dumps` would, which makes an encoder anew for each conversation.
_IN_ORDER = json.JSONEncoder(sort_keys=True).encode
WHOLE = 16  # bytes of a digest that stand for the whole conversation
_AROUND = " .,;:!?…\"'`()“”‘’„«»¿¡。，、！？"


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


def digest(said: Said, question: str | None = None) -> bytes:
    """What a conversation is known by: sixteen bytes that two share only when they are the same, turn by turn, then eight that
    they share when they begin with the same question.

    Args:
        question: its `beginning`, where that is known already.
    """
    conversation = as_conversation(said)
    asked = beginning(conversation) if question is None else question
    return _whole(conversation) + blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _whole(conversation: Conversation) -> bytes:
    if conversation.text:
        return blake2b(conversation.text.encode("utf-8", "surrogatepass"), digest_size=WHOLE, person=b"text").digest()
    turns: list[Any] = [_turn(message) for message in conversation.messages]
    if conversation.tools or conversation.arguments:
        turns.append({"tools": conversation.tools, "arguments": dict(conversation.arguments)})
    return blake2b(_IN_ORDER(turns).encode(), digest_size=WHOLE).digest()


def _turn(message: Message) -> list[Any]:
    turn: list[Any] = [message["role"], message["content"]]
    return turn if len(message) == 2 else [*turn, {key: message[key] for key in message if key not in ("role", "content")}]  # type: ignore[literal-required]


def beginning(conversation: Conversation) -> str:
    """The first question, whatever its case, white space and the punctuation around it; of a text all of it."""
    if conversation.text:
        return _normalised(conversation.text)
    first = next((each for each in conversation.messages if each["role"] == "user"), None)
    return _normalised((first or conversation.messages[0])["content"]) if conversation.messages else ""


def _normalised(text: str) -> str:
    words = " ".join(text.casefold().split())
    return words.strip(_AROUND) or words
