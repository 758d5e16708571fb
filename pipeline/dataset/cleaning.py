"""Cleaning a conversation and telling whether it was seen before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Message, check_turns

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
    tidy = [Message(role=message["role"], content=_tidy(message["content"])) for message in messages]
    if any(new["content"] != old["content"] for new, old in zip(tidy, messages, strict=True)):
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


def _tidy(content: str) -> str:
    if "\0" in content:
        raise BadInput("a message holds a NUL character")
    return content.replace("\r\n", "\n").replace("\r", "\n").strip()


def digest(messages: Sequence[Message]) -> bytes:
    """Sixteen bytes that two conversations share only when they are the same, turn by turn."""
    turns = [[message["role"], message["content"]] for message in messages]
    return hashlib.blake2b(json.dumps(turns).encode(), digest_size=16).digest()
