"""The row schemas there are. What lists, offers or names schemas reads them here.

To add one: a file beside this one that declares `SCHEMA`, its name in `FoundSchema` of the config, and its case in `schema`,
which mypy then asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pipeline.config.choice import Choice
from pipeline.config.schema import FoundSchema
from pipeline.dataset.schemas import (
    alpaca,
    chat_messages,
    instruction_output,
    oasst,
    preference,
    prompt_completion,
    sharegpt,
    text,
)
from pipeline.dataset.schemas.fields import canonical
from pipeline.dataset.schemas.schema import Schema


def schema(name: FoundSchema) -> Schema:
    """The schema of this name."""
    match name:
        case "chat_messages":
            return chat_messages.SCHEMA
        case "instruction_output":
            return instruction_output.SCHEMA
        case "alpaca":
            return alpaca.SCHEMA
        case "sharegpt":
            return sharegpt.SCHEMA
        case "oasst":
            return oasst.SCHEMA
        case "prompt_completion":
            return prompt_completion.SCHEMA
        case "preference":
            return preference.SCHEMA
        case "text":
            return text.SCHEMA


SCHEMAS: tuple[Schema, ...] = tuple(schema(name) for name in get_args(FoundSchema))
# A pair has the keys of a conversation too, and a text may stand beside anything.
_ASKED_IN_ORDER = (preference, chat_messages, sharegpt, instruction_output, alpaca, oasst, prompt_completion, text)
SCHEMA_CHOICES: tuple[Choice, ...] = (
    Choice("auto", "found out from the rows"),
    *(Choice(each.name, each.what) for each in SCHEMAS),
)
# Keys of a row that are named where it is of no schema.
_MOST_KEYS = 8
# How a row may look, for a line of help.
OUTLINES = "chat messages, ShareGPT, Alpaca, prompt and completion, text …"


def fitting(row: Mapping[str, Any]) -> FoundSchema | None:
    """The schema that the row is written in, the first where several fit; None where none does."""
    row = canonical(row)
    return next((module.SCHEMA.name for module in _ASKED_IN_ORDER if module.SCHEMA.fits(row)), None)


def why_none(row: Mapping[str, Any]) -> str:
    """Why a row is of no schema, and what to do: its keys, and how to say what they are."""
    keys = [str(key)[:30] for key in row]
    some = ", ".join(keys[:_MOST_KEYS]) + (", …" if len(keys) > _MOST_KEYS else "")
    return f"no schema has the keys of the row ({some}): say which are question and answer (data.columns prompt=… completion=…)"


def markdown_table() -> str:
    """The schemas as the documentation shows them, each with a row."""
    rows = [
        f"| `{each.name}` | {each.what} | `{json.dumps(each.example, ensure_ascii=False)}` | {each.maps} |" for each in SCHEMAS
    ]
    head = ["| `data.schema` | what a row is | a row | what becomes of it |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"
