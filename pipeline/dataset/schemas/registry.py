"""The row schemas there are. What lists, offers or names schemas reads them here.

To add one: a file beside this one that declares `SCHEMA`, its name in `RowSchema` of the config, and its case in `schema`, which
mypy then asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pipeline.config.choice import Choice
from pipeline.config.schema import RowSchema
from pipeline.dataset.schemas import chat_messages, instruction_output
from pipeline.dataset.schemas.schema import Schema


def schema(name: RowSchema) -> Schema:
    """The schema of this name."""
    match name:
        case "chat_messages":
            return chat_messages.SCHEMA
        case "instruction_output":
            return instruction_output.SCHEMA


SCHEMAS: tuple[Schema, ...] = tuple(schema(name) for name in get_args(RowSchema))
_KEYS = tuple((each.name, set(each.keys)) for each in SCHEMAS)
# People ask for these by name.
_NOT_READ = (
    Choice("alpaca", "Alpaca's rows", "not needed: instruction_output reads them, one JSON object a line"),
    Choice("sharegpt", "conversations with from and value", "not in this version: write them as messages with role and content"),
    Choice("oasst-1", "OpenAssistant's message trees", "not in this version: write each path as messages with role and content"),
    Choice("parquet", "Parquet files", "not in this version: write the rows as JSONL"),
)
SCHEMA_CHOICES: tuple[Choice, ...] = (*(Choice(each.name, each.what) for each in SCHEMAS), *_NOT_READ)
# Why a row is of no schema.
FITS_NONE = f"neither {' nor '.join(' and '.join(each.keys) for each in SCHEMAS)}"
# How a row may look, for a line of help.
OUTLINES = ", or ".join(each.outline for each in SCHEMAS)


def fitting(row: Mapping[str, Any]) -> RowSchema | None:
    """The schema whose keys the row has, the first where several fit; None where none does."""
    return next((name for name, keys in _KEYS if keys <= row.keys()), None)


def markdown_table() -> str:
    """The schemas as the documentation shows them, each with a row."""
    rows = [f"| `{each.name}` | {each.what} | `{json.dumps(each.example, ensure_ascii=False)}` |" for each in SCHEMAS]
    return "\n".join(["| `data.schema` | what a row is | a row |", "| --- | --- | --- |", *rows]) + "\n"
