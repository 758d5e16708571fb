"""Rows with a list of messages, each with role and content: OpenAI's form, and TRL's and axolotl's additions to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import from_json, is_there, list_field, system_of
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turn_lists import turns_of
from pipeline.dataset.schemas.turns import tools_of
from pipeline.tokenization.messages import Conversation, Message

BESIDE = frozenset({"tools", "functions", "system", "chat_template_kwargs"})


def with_what_stands_beside(messages: list[Message], row: Mapping[str, Any]) -> Conversation:
    """The conversation of a row: its messages with the system message, tools and template arguments that it has of its own."""
    if system := system_of(row).strip():
        if messages and messages[0]["role"] == "system" and messages[0]["content"].strip() != system:
            raise BadInput("the row has a system message beside its messages and another one among them")
        if not (messages and messages[0]["role"] == "system"):
            messages = [Message(role="system", content=system), *messages]
    arguments = from_json(row.get("chat_template_kwargs"))
    if is_there(arguments) and not isinstance(arguments, dict):
        raise BadInput('"chat_template_kwargs" of the row is no object')
    return Conversation(tuple(messages), tools_of(row), arguments or {})


def _conversation(row: Mapping[str, Any]) -> Conversation:
    messages = turns_of(list_field(row, "messages"))
    return with_what_stands_beside(messages, row) if len(row) > 1 else Conversation(tuple(messages))


SCHEMA = Schema(
    name="chat_messages",
    what="messages with role and content, several turns, tool calls",
    evidence="messages with role and content",
    example={"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]},
    maps="`messages`; `tools`, `system`, `chat_template_kwargs` beside them; of an assistant's message also `tool_calls`,"
    " `reasoning_content` and `weight`, `train` or `loss_weight`",
    fits=lambda row: isinstance(from_json(row.get("messages")), list),
    conversation=_conversation,
    used=frozenset({"messages"}) | BESIDE,
    lists=("messages",),
)
