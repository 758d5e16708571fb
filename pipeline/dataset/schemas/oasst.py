"""OpenAssistant's message trees as they are published (Köpf and others, 2023): of each the path of the best answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import from_json, text_field
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turns import message_of
from pipeline.tokenization.messages import Conversation, Message

OTHER_REPLIES = "replies beside the best-ranked path"
# Deeper than any tree that people made.
_MOST_TURNS = 1000


def _root(row: Mapping[str, Any]) -> Any:
    prompt = from_json(row.get("prompt"))
    return prompt if isinstance(prompt, dict) else row


def _path(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """From the first question on the best-ranked reply of each, without those that were deleted or rejected in review."""
    path, here = list[Mapping[str, Any]](), [_root(row)]
    while here and len(path) < _MOST_TURNS:
        good = [message for message in here if isinstance(message, dict) and _is_good(message)]
        if not good:
            break
        path.append(min(good, key=_rank))
        replies = path[-1].get("replies")
        here = replies if isinstance(replies, list) else []
    return path


def _is_good(message: Mapping[str, Any]) -> bool:
    return not message.get("deleted") and message.get("review_result") is not False


def _rank(message: Mapping[str, Any]) -> float:
    rank = message.get("rank")
    return float(rank) if isinstance(rank, (int, float)) else float("inf")


def _conversation(row: Mapping[str, Any]) -> Conversation:
    path = _path(row)
    if not path:
        raise BadInput("the tree's first message was deleted or rejected in review")
    return Conversation(tuple(_message(message) for message in path))


def _message(message: Mapping[str, Any]) -> Message:
    return message_of({"role": text_field(message, "role", "a message"), "content": text_field(message, "text", "a message")})


def _left_out(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (OTHER_REPLIES,) if any(len(message.get("replies") or ()) > 1 for message in _path(row)) else ()


def _fits(row: Mapping[str, Any]) -> bool:
    root = _root(row)
    return "role" in root and "text" in root and isinstance(root.get("replies"), list)


SCHEMA = Schema(
    name="oasst",
    what="OpenAssistant's message trees, the best-ranked path of each",
    evidence="a prompt with text, role and replies",
    example={"prompt": {"role": "prompter", "text": "…", "replies": [{"role": "assistant", "text": "…"}]}},
    maps="`prompter` is user; of the `replies` the best `rank` follows, without those `deleted` or with `review_result` false",
    fits=_fits,
    conversation=_conversation,
    # What a message says of its making is no part of the conversation and stands in every tree.
    used=frozenset({"message_tree_id", "tree_state", "prompt", "role", "text", "replies", "message_id", "rank", "deleted",
                    "review_result", "review_count", "lang", "synthetic", "model_name", "emojis", "labels", "created_date"}),
    left_out=_left_out,
)  # fmt: skip
