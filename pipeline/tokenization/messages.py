"""A conversation as everything below works with it: messages in turn, each with a role and its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pipeline.common.errors import BadInput

# The label of a token that is seen and not trained, as torch's cross entropy ignores it.
NOT_TRAINED = -100


class Message(TypedDict):
    """One turn. A system message can only be the first."""

    role: str
    content: str


def check_turns(messages: Sequence[Message]) -> None:
    """Raise `BadInput`, in words that fit a report, when no chat template could make sense of `messages`.

    Two turns of the same role in a row are left to the template: some take them, some say themselves that they don't.
    """
    if not messages:
        raise BadInput("there are no messages")
    for position, message in enumerate(messages):
        if message["role"] not in ("system", "user", "assistant"):
            raise BadInput(f"the role {message['role'][:20]!r} is not system, user or assistant")
        if message["role"] == "system" and position > 0:
            raise BadInput("a system message stands after the first")
        if not message["content"].strip():
            raise BadInput(f"a message of the {message['role']} is empty")
    spoken = [message["role"] for message in messages if message["role"] != "system"]
    if spoken[:1] == ["assistant"]:
        raise BadInput("the assistant speaks first: there is nothing it answers")
