"""Alpaca's rows as LLaMA-Factory extends them: a system message, and a history of questions with their answers."""

from __future__ import annotations

from pipeline.dataset.schemas import instruction_output
from pipeline.dataset.schemas.schema import Schema

SCHEMA = Schema(
    name="alpaca",
    what="Alpaca's rows: instruction and output, with system and history",
    evidence="instruction and output, with system or history",
    example={"instruction": "…", "input": "…", "output": "…", "system": "…", "history": [["…", "…"]]},
    maps="as instruction_output; `system` is the system message, `history` the turns before",
    fits=instruction_output.has_texts,
    conversation=instruction_output.conversation,
    used=instruction_output.USED,
    also_used=instruction_output.SCHEMA.also_used,
)
