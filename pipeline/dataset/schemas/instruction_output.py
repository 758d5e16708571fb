"""Rows with an instruction, its output and perhaps an input: the form of Alpaca's rows (Taori and others, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import from_json, is_there, optional_text, text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.tokenization.messages import Conversation, Message


def asked(row: Mapping[str, Any]) -> list[Message]:
    """What a row asks: system message, earlier questions with their answers, the instruction with its input."""
    instruction = text_field(row, "instruction")
    # Many files write an empty or null input where there is none.
    material = optional_text(row, "input")
    question = f"{instruction.strip()}\n\n{material}" if material.strip() else instruction
    messages = [Message(role="system", content=system)] if (system := optional_text(row, "system")).strip() else []
    return [*messages, *_history(row), Message(role="user", content=question)]


def _history(row: Mapping[str, Any]) -> list[Message]:
    """Earlier turns as pairs. They were answered before: LLaMA-Factory and we train on their answers too."""
    if not is_there(row.get("history")):
        return []
    pairs = from_json(row["history"])
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise BadInput('"history" of the row is no list of questions with their answers')
    return [Message(role=role, content=text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def conversation(row: Mapping[str, Any]) -> Conversation:
    """The whole row."""
    messages = asked(row)
    return Conversation((*messages, Message(role="assistant", content=text_field(row, "output"))))


def has_texts(row: Mapping[str, Any]) -> bool:
    """Whether there is an instruction with its output."""
    return isinstance(row.get("instruction"), str) and "output" in row


USED = frozenset({"instruction", "input", "output", "system", "history"})
SCHEMA = Schema(
    name="instruction_output",
    what="instruction, output and an optional input",
    evidence="instruction and output",
    example={"instruction": "…", "input": "…", "output": "…"},
    maps="`instruction` with `input` below it is the question, `output` the answer",
    fits=lambda row: has_texts(row) and not (is_there(row.get("system")) or is_there(row.get("history"))),
    conversation=conversation,
    used=USED,
)
