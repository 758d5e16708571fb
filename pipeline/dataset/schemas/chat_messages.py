"""Rows with a list of messages, each with role and content: the form that transformers, TRL and most chat data sets use."""

from __future__ import annotations

from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.tokenization.messages import Message


def _messages(row: dict[str, Any]) -> list[Message]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise BadInput('the row has no list "messages"')
    return [_message(message) for message in messages]


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise BadInput("a message is not an object with role and content")
    return Message(role=text_field(message, "role", "a message"), content=text_field(message, "content", "a message"))


SCHEMA = Schema(
    name="chat_messages",
    what="messages with role and content, several turns",
    keys=("messages",),
    example={"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]},
    messages=_messages,
)
