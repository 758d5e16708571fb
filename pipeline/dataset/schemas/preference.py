"""Preference pairs: a question with a chosen and a rejected answer. The chosen one is trained, the other left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas import instruction_output, sharegpt
from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import from_json, is_there, list_field
from pipeline.dataset.schemas.prompt_completion import QUESTIONS, not_trained, side
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turns import message_of
from pipeline.tokenization.messages import Conversation, Message

NOT_PREFERRED = "rejected (the answer that was not preferred)"


def _conversation(row: Mapping[str, Any]) -> Conversation:
    return with_what_stands_beside([*not_trained(_asked(row)), *_chosen(row)], row)


def _chosen(row: Mapping[str, Any]) -> list[Message]:
    chosen = from_json(row.get("chosen"))
    if isinstance(chosen, dict):
        return [message_of(chosen)]
    messages = side(row, "chosen", "assistant")
    # Without a prompt beside it the whole conversation stands under chosen: its last answer is the one that was preferred.
    return messages if _has_question(row) else [*not_trained(messages[:-1]), *messages[-1:]]


def _has_question(row: Mapping[str, Any]) -> bool:
    return any(is_there(row.get(key)) for key in (*sharegpt.KEYS, "messages", "instruction", *QUESTIONS))


def _asked(row: Mapping[str, Any]) -> list[Message]:
    for key in (*sharegpt.KEYS, "messages"):
        if is_there(row.get(key)):
            return [message_of(turn) for turn in list_field(row, key)]
    if is_there(row.get("instruction")):
        return instruction_output.asked({key: value for key, value in row.items() if key != "system"})
    asked = next((key for key in QUESTIONS if is_there(row.get(key))), "")
    if asked:
        return side(row, asked, "user")
    if isinstance(from_json(row.get("chosen")), list):
        return []
    raise BadInput("a preference pair has no question")


SCHEMA = Schema(
    name="preference",
    what="preference pairs: the chosen answer is trained, the rejected one left out",
    evidence="chosen and rejected",
    example={"prompt": "…", "chosen": "…", "rejected": "…"},
    maps="`prompt`, `conversations`, `messages` or `instruction` is the question, `chosen` the answer; `rejected` is left out",
    fits=lambda row: is_there(row.get("chosen")) and "rejected" in row,
    conversation=_conversation,
    used=frozenset({"chosen", "rejected", "messages", "instruction", "input", "history", *sharegpt.KEYS, *QUESTIONS}) | BESIDE,
    lists=(*sharegpt.KEYS, "messages", "prompt", "chosen"),
    left_out=lambda row: (NOT_PREFERRED,) if is_there(row.get("rejected")) else (),
)
