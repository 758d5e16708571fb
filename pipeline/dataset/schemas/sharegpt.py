"""ShareGPT's rows: conversations with from and value, function_call and observation among them, tools and system beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import from_json, list_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.transcript import turns_in
from pipeline.dataset.schemas.turn_lists import are_turns, turns_of
from pipeline.tokenization.messages import Message

KEYS = ("conversations", "conversation")
# Names under which some have them; a list of anything else may stand there too.
OTHER_KEYS = ("chat", "dialogue", "dialog", "turns", "items", "data")
ALL_KEYS = (*KEYS, *OTHER_KEYS)


def key_of(row: Mapping[str, Any]) -> str:
    """Under which key the turns stand; the usual one where there are none."""
    for key in KEYS:
        if isinstance(from_json(row.get(key)), list):
            return key
    for key in ALL_KEYS:
        if key in row and ((key in OTHER_KEYS and are_turns(from_json(row[key]))) or _is_transcript(row[key])):
            return key
    return KEYS[0]


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and bool(turns_in(value))


def turns_at(row: Mapping[str, Any], key: str) -> list[Message]:
    """The turns at a key: a list of them, or one text with who speaks in front of each. Raises `BadInput`."""
    value = from_json(row.get(key))
    turns = turns_in(value) if isinstance(value, str) else []
    return turns or turns_of(list_field(row, key))


def _fits(row: Mapping[str, Any]) -> bool:
    key = key_of(row)
    return key != KEYS[0] or isinstance(from_json(row.get(key)), list) or _is_transcript(row.get(key))


SCHEMA = Schema(
    name="sharegpt",
    what="conversations with from and value (ShareGPT, LLaMA-Factory)",
    evidence="conversations with from and value",
    example={"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]},
    maps="`human` is user, `gpt` assistant, `function_call` an assistant's tool call, `observation` a tool's message; `tools` and"
    " `system` beside them; also pairs (`human` with `assistant`, `input` with `output`), texts in turn and one text with"
    f" `Human:` and `Assistant:` in it; also under {', '.join(f'`{key}`' for key in (KEYS[1], *OTHER_KEYS))}",
    fits=_fits,
    conversation=lambda row: with_what_stands_beside(turns_at(row, key_of(row)), row),
    used=frozenset(KEYS) | BESIDE,
    lists=ALL_KEYS,
    also_used=lambda row: frozenset({key_of(row)}),
)
