"""Reading the fields of a row; a field that is not what it should be is the reason a row is rejected for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput


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
