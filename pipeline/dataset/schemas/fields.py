"""Reading the fields of a row; a field that is not what it should be is the reason a row is rejected for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput


def is_there(value: Any) -> bool:
    """Whether a field says anything: null, an empty text and an empty list or object don't."""
    return value is not None and value != "" and value != [] and value != {}


def text_field(row: Mapping[str, Any], key: str, owner: str = "the row") -> str:
    """The text at `key`.

    Args:
        owner: what `row` is called in the reason.

    Raises:
        BadInput: there is none, or it is not text.
    """
    if key not in row:
        raise BadInput(f'{owner} has no "{key}"')
    value = row[key]
    if not isinstance(value, str):
        raise BadInput(f'"{key}" of {owner} is not text')
    return value


def optional_text(row: Mapping[str, Any], key: str) -> str:
    """The text at `key`; "" where there is none. Raises `BadInput` where it is something else."""
    return text_field(row, key) if row.get(key) is not None else ""


def from_json(value: Any) -> Any:
    """What a text holds that is a JSON object or array, as tables write one into a cell; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def list_field(row: Mapping[str, Any], key: str) -> list[Any]:
    """The list at `key`, also as JSON in a text. Raises `BadInput` where there is none."""
    value = from_json(row.get(key))
    if not isinstance(value, list):
        raise BadInput(f'the row has no list "{key}"')
    return value
