"""OpenAssistant's messages as they are published (Köpf and others, 2023): trees, or messages that name what they reply to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import text_field
from pipeline.dataset.schemas.oasst_trees import gathered, is_message, rank, replies, root_of, why_left_out
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turns import messages_of
from pipeline.tokenization.messages import Conversation, Message

OTHER_REPLIES = "replies beside the best-ranked path"
# Deeper than any tree that people made.
_MOST_TURNS = 1000
# Trees that were given up for what stood in them.
_GIVEN_UP = frozenset({"aborted_low_grade", "halted_by_moderator"})


def _path(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """From the first question on the best-ranked reply of each, without those that were deleted or rejected in review."""
    path, here = list[Mapping[str, Any]](), [root_of(row)]
    while here and len(path) < _MOST_TURNS:
        good = [message for message in here if not why_left_out(message)]
        if not good:
            break
        path.append(min(good, key=rank))
        here = replies(path[-1])
    return path


def _conversation(row: Mapping[str, Any]) -> Conversation:
    if row.get("tree_state") in _GIVEN_UP:
        raise BadInput(f"the tree was given up ({row['tree_state']})")
    path = _path(row)
    if not path:
        raise BadInput("the tree's first message was deleted or rejected in review")
    return Conversation(tuple(_message(message) for message in path))


def _message(message: Mapping[str, Any]) -> Message:
    said = {"role": text_field(message, "role", "a message"), "content": text_field(message, "text", "a message")}
    (found,) = messages_of({**said, "loss_weight": message["loss_weight"]} if "loss_weight" in message else said)
    return found


def _left_out(row: Mapping[str, Any]) -> tuple[str, ...]:
    path, names = _path(row), set(row.get("left_out") or ())
    if any(len([each for each in replies(message) if not why_left_out(each)]) > 1 for message in path):
        names.add(OTHER_REPLIES)
    names |= {why_left_out(each) for message in path for each in replies(message)} - {""}
    return tuple(sorted(names))


def _fits(row: Mapping[str, Any]) -> bool:
    root = root_of(row)
    return is_message(row) or ("role" in root and "text" in root and isinstance(root.get("replies"), list))


SCHEMA = Schema(
    name="oasst",
    what="OpenAssistant's message trees or messages: the best-ranked path of each tree, or all paths (data.oasst)",
    evidence="a prompt with text, role and replies, or message_id with parent_id",
    example={"prompt": {"role": "prompter", "text": "…", "replies": [{"role": "assistant", "text": "…"}]}},
    maps="`prompter` is user; of the `replies`, or of the messages with this `parent_id`, the best `rank` follows, without those"
    " `deleted` or with `review_result` false; by `data.oasst` in some languages (`lang`) only, or all paths, each answer trained"
    " in the first that it is in",
    fits=_fits,
    conversation=_conversation,
    # What a message says of its making is no part of the conversation and stands in every tree.
    used=frozenset({"message_tree_id", "tree_state", "prompt", "role", "text", "replies", "message_id", "parent_id", "rank",
                    "deleted", "review_result", "review_count", "lang", "synthetic", "model_name", "emojis", "labels", "detoxify",
                    "user_id", "created_date", "left_out"}),
    left_out=_left_out,
    gathered=gathered,
)  # fmt: skip
