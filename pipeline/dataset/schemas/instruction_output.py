"""Rows with an instruction, its output and perhaps an input: the form of Alpaca's rows (Taori and others, 2023)."""

from __future__ import annotations

from typing import Any

from pipeline.dataset.schemas.fields import text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.tokenization.messages import Message


def _messages(row: dict[str, Any]) -> list[Message]:
    instruction, output = text_field(row, "instruction"), text_field(row, "output")
    # Many files write an empty or null input where there is none.
    material = text_field(row, "input") if row.get("input") is not None else ""
    question = f"{instruction.strip()}\n\n{material}" if material.strip() else instruction
    return [Message(role="user", content=question), Message(role="assistant", content=output)]


SCHEMA = Schema(
    name="instruction_output",
    what="instruction, output and an optional input (Alpaca's rows fit)",
    keys=("instruction", "output"),
    example={"instruction": "…", "input": "…", "output": "…"},
    messages=_messages,
)
