"""Preference pairs: a question with a chosen and a rejected answer. The chosen one is trained, the other left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas import instruction_output, sharegpt
from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import from_json, is_there
from pipeline.dataset.schemas.prompt_completion import QUESTIONS, asked_at, not_trained, side
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.transcript import turns_in
from pipeline.dataset.schemas.turn_lists import turns_of
from pipeline.tokenization.messages import Conversation, Message

NOT_PREFERRED = "rejected (the answer that was not preferred)"


def _conversation(row: Mapping[str, Any]) -> Conversation:
    if whole := _whole(row):
        return with_what_stands_beside([*not_trained(whole[:-1]), whole[-1]], row)
    chosen = side(row, "chosen", "assistant")
    return with_what_stands_beside([*not_trained(_asked(row)), *chosen], row)


def _whole(row: Mapping[str, Any]) -> list[Message]:
    """The conversation where all of it stands under chosen, as in UltraFeedback's and Anthropic's pairs; none where only
    the answer does. Its last answer is the one that was preferred."""
    chosen = from_json(row.get("chosen"))
    if isinstance(chosen, str):
        return turns_in(chosen)
    turns = turns_of(chosen) if isinstance(chosen, list) else []
    return turns if any(turn["role"] == "user" for turn in turns) else []


def _asked(row: Mapping[str, Any]) -> list[Message]:
    for key in (*sharegpt.KEYS, "messages"):
        if is_there(row.get(key)):
            return sharegpt.turns_at(row, key)
    if is_there(row.get("instruction")):
        return instruction_output.asked({key: value for key, value in row.items() if key != "system"})
    asked = next((key for key in QUESTIONS if is_there(row.get(key))), "")
    if asked:
        return [*instruction_output.history_of(row), *asked_at(row, asked)]
    raise BadInput("a preference pair has no question")


SCHEMA = Schema(
    name="preference",
    what="preference pairs: the chosen answer is trained, the rejected one left out",
    evidence="chosen and rejected",
    example={"prompt": "…", "chosen": "…", "rejected": "…"},
    maps="`prompt`, `conversations`, `messages` or `instruction` is the question, `chosen` the answer; `rejected` is left out",
    fits=lambda row: is_there(row.get("chosen")) and "rejected" in row,
    conversation=_conversation,
    used=frozenset({"chosen", "rejected", "messages", "instruction", "input", "context", "history", *sharegpt.KEYS, *QUESTIONS})
    | BESIDE,
    lists=(*sharegpt.KEYS, "messages", "prompt", "chosen"),
    left_out=lambda row: (NOT_PREFERRED,) if is_there(row.get("rejected")) else (),
)
