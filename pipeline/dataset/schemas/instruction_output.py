"""Rows with an instruction, its output and perhaps an input: the form of Alpaca's rows (Taori and others, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import (
    THOUGHTS,
    from_json,
    is_there,
    optional_text,
    said_field,
    text_field,
    with_material,
    with_thought,
)
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turn_lists import are_turns, turns_of
from pipeline.tokenization.messages import Conversation, Message

MATERIAL = ("input", "context")
_ANSWERS = ("output", "response", "answer", "completion")


def asked(row: Mapping[str, Any]) -> list[Message]:
    """What a row asks: system message, earlier questions with their answers, the instruction with its input."""
    question = with_material(text_field(row, "instruction"), row, MATERIAL)
    messages = [Message(role="system", content=system)] if (system := optional_text(row, "system")).strip() else []
    return [*messages, *history_of(row), Message(role="user", content=question)]


def history_of(row: Mapping[str, Any]) -> list[Message]:
    """Earlier turns as pairs, or as messages. They were answered before: LLaMA-Factory and we train on their answers too."""
    if not is_there(row.get("history")):
        return []
    history = from_json(row["history"])
    if isinstance(history, list) and all(_is_pair(pair) for pair in history):
        roles = ("user", "assistant")
        return [Message(role=role, content=text) for pair in history for role, text in zip(roles, pair, strict=True)]
    if are_turns(history) and all(isinstance(turn, dict) for turn in history):
        return turns_of(history)
    raise BadInput('"history" of the row is no list of questions with their answers')


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def answer_key(row: Mapping[str, Any]) -> str:
    """Under which name the answer stands."""
    return next((key for key in _ANSWERS if row.get(key) is not None), _ANSWERS[0])


def conversation(row: Mapping[str, Any]) -> Conversation:
    """The whole row."""
    answer = Message(role="assistant", content=said_field(row, answer_key(row)))
    return Conversation((*asked(row), with_thought(answer, row)))


def has_texts(row: Mapping[str, Any]) -> bool:
    """Whether there is an instruction with its output."""
    return isinstance(row.get("instruction"), str) and any(key in row for key in _ANSWERS)


USED = frozenset({"instruction", *MATERIAL, "output", "system", "history", *THOUGHTS})
SCHEMA = Schema(
    name="instruction_output",
    what="instruction, output and an optional input",
    evidence="instruction and output",
    example={"instruction": "…", "input": "…", "output": "…"},
    maps="`instruction` with `input` or `context` below it is the question, `output` (`response`, `answer`, `completion`) the"
    " answer, `reasoning_content` (`reasoning`, `thinking`) what was thought before it",
    fits=lambda row: has_texts(row) and not (is_there(row.get("system")) or is_there(row.get("history"))),
    conversation=conversation,
    used=USED,
    also_used=lambda row: frozenset({answer_key(row)}),
)
