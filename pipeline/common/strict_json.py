"""JSON as strictly as a person means it: a key that stands twice in one object is an error, not a silent choice."""

from __future__ import annotations

import json
from typing import Any


class DuplicateKey(ValueError):
    """`key` stands twice in one object."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:40]!r} stands twice in one object")
        self.key = key


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`. Raises `DuplicateKey`."""
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise DuplicateKey(key)
        seen.add(key)
    return result


def complaint(error: json.JSONDecodeError) -> str:
    """What is wrong, without the "at" or "starting" of its place: reasons are counted, each place on its own is not."""
    return error.msg.removesuffix(" at").removesuffix(" starting")
