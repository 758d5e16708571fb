"""Rows with a question and its answer under a pair of names, as texts or messages: TRL's prompt and completion, and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import from_json, text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turns import message_of
from pipeline.tokenization.messages import Conversation, Message

QUESTIONS = ("prompt", "question", "query", "problem", "input")
ANSWERS = ("completion", "response", "answer", "solution", "output")


def _pair(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Under which names question and answer stand, the likeliest first."""
    question = next((key for key in QUESTIONS if isinstance(row.get(key), (str, list))), None)
    answer = next((key for key in ANSWERS if isinstance(row.get(key), (str, list))), None)
    return (question, answer) if question and answer else None


def side(row: Mapping[str, Any], key: str, role: str) -> list[Message]:
    """What stands under a key: messages, or a text that `role` says. Raises `BadInput`."""
    value = from_json(row.get(key))
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return [message_of(each) for each in value]
    return [Message(role=role, content=text_field(row, key))]


def not_trained(messages: list[Message]) -> list[Message]:
    """The messages with no answer among them trained: they are what is asked."""
    return [{**message, "weight": 0.0} if message["role"] == "assistant" else message for message in messages]


def _conversation(row: Mapping[str, Any]) -> Conversation:
    pair = _pair(row)
    if pair is None:
        raise BadInput("the row has no question with an answer (prompt and completion)")
    return with_what_stands_beside([*not_trained(side(row, pair[0], "user")), *side(row, pair[1], "assistant")], row)


def _not_taken(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Other names of a question or an answer that the row has as well."""
    return tuple(key for key in (*QUESTIONS, *ANSWERS) if row.get(key) and key not in (_pair(row) or ()))


SCHEMA = Schema(
    name="prompt_completion",
    what="prompt and completion, question and answer, as texts or messages",
    evidence="prompt and completion, or question and answer",
    example={"prompt": "…", "completion": "…"},
    maps=f"{', '.join(f'`{key}`' for key in QUESTIONS)} is the question; {', '.join(f'`{key}`' for key in ANSWERS)} the answer,"
    " which alone is trained",
    fits=lambda row: _pair(row) is not None,
    conversation=_conversation,
    used=frozenset({*QUESTIONS, *ANSWERS}) | BESIDE,
    lists=("prompt", "completion"),
    left_out=_not_taken,
)
