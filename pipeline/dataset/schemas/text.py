"""Rows with a text alone, for continued pre-training: every token is trained, no template is put around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.dataset.schemas.fields import text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.tokenization.messages import Conversation


def _conversation(row: Mapping[str, Any]) -> Conversation:
    return Conversation((), text=text_field(row, "text"))


SCHEMA = Schema(
    name="text",
    what="texts as they are, every token trained (continued pre-training)",
    evidence="text",
    example={"text": "…"},
    maps="`text`, tokenized with its special tokens and an end of text behind it; no template",
    fits=lambda row: isinstance(row.get("text"), str),
    conversation=_conversation,
    used=frozenset({"text"}),
)
