"""How a row is written, and the conversation it stands for. A registry: a schema is a function from the row to its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.schema import RowSchema
from pipeline.tokenization.messages import Message


def messages_of(row: dict[str, Any], schema: RowSchema) -> list[Message]:
    """The row's conversation as it is written, not yet cleaned. Raises `BadInput` in words that fit a report."""
    return _SCHEMAS[schema](row)


def fitting(row: dict[str, Any]) -> RowSchema | None:
    """The schema the row is written in, judged by its keys, or None."""
    return next((schema for schema, keys in _KEYS.items() if keys <= row.keys()), None)


def _chat_messages(row: dict[str, Any]) -> list[Message]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise BadInput('the row has no list "messages"')
    return [_message(message) for message in messages]


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise BadInput("a message is not an object with role and content")
    return Message(role=_text(message, "role", "a message"), content=_text(message, "content", "a message"))


def _instruction_output(row: dict[str, Any]) -> list[Message]:
    instruction, output = _text(row, "instruction"), _text(row, "output")
    # Many files write an empty or null input where there is none.
    material = _text(row, "input") if row.get("input") is not None else ""
    question = f"{instruction.strip()}\n\n{material}" if material.strip() else instruction
    return [Message(role="user", content=question), Message(role="assistant", content=output)]


def _text(row: dict[str, Any], key: str, owner: str = "the row") -> str:
    if key not in row:
        raise BadInput(f'{owner} has no "{key}"')
    value = row[key]
    if not isinstance(value, str):
        raise BadInput(f'"{key}" of {owner} is not text')
    return value


_SCHEMAS: dict[RowSchema, Callable[[dict[str, Any]], list[Message]]] = {
    "chat_messages": _chat_messages,
    "instruction_output": _instruction_output,
}
_KEYS: dict[RowSchema, set[str]] = {"chat_messages": {"messages"}, "instruction_output": {"instruction", "output"}}
