"""ShareGPT's rows: conversations with from and value, function_call and observation among them, tools and system beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import from_json, list_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turns import message_of
from pipeline.tokenization.messages import Conversation

KEYS = ("conversations", "conversation")


def key_of(row: Mapping[str, Any]) -> str:
    """Under which key the turns stand; the usual one where there are none."""
    return next((key for key in KEYS if isinstance(from_json(row.get(key)), list)), KEYS[0])


def _conversation(row: Mapping[str, Any]) -> Conversation:
    return with_what_stands_beside([message_of(turn) for turn in list_field(row, key_of(row))], row)


SCHEMA = Schema(
    name="sharegpt",
    what="conversations with from and value (ShareGPT, LLaMA-Factory)",
    evidence="conversations with from and value",
    example={"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]},
    maps="`human` is user, `gpt` assistant, `function_call` an assistant's tool call, `observation` a tool's message; `tools` and"
    " `system` beside them",
    fits=lambda row: any(isinstance(from_json(row.get(key)), list) for key in KEYS),
    conversation=_conversation,
    used=frozenset(KEYS) | BESIDE,
    lists=KEYS,
)
