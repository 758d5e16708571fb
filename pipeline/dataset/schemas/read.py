"""A row read by its schema, and what of it is not used: the one place for all schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.common.errors import BadInput
from pipeline.config.schema import DataSection, columns_by_name
from pipeline.dataset.origin import KEYS
from pipeline.dataset.schemas.fields import canonical, from_json, is_there
from pipeline.dataset.schemas.parts import unused_in
from pipeline.dataset.schemas.registry import schema
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.turn_lists import used_of
from pipeline.dataset.schemas.turns import said_key
from pipeline.tokenization.messages import Conversation

ORIGINS = frozenset(KEYS)


class Reading(NamedTuple):
    """What a row says, not yet cleaned, and names of what else stands in it."""

    conversation: Conversation
    left_out: frozenset[str]


def read(row: Mapping[str, Any], data: DataSection) -> Reading:
    """What a row says by `data.schema`, which is not auto here. Raises `BadInput` with the reason it is rejected for."""
    row = renamed(row, data.columns)
    if data.row_schema == "auto":
        raise ValueError("the schema is found out before rows are read")
    of, row = schema(data.row_schema), canonical(row)
    _check_wanted(row)
    conversation = of.conversation(row)
    left_out = _left_out(row, of)
    if data.train_on == "last":
        conversation = _last_answer_only(conversation)
    return Reading(conversation, frozenset(left_out))


def renamed(row: Mapping[str, Any], columns: tuple[str, ...]) -> Mapping[str, Any]:
    """The row with its columns under the names that `data.columns` gives them (`prompt=question`)."""
    if not columns:
        return row
    pairs = columns_by_name(columns)
    missing = [column for column in pairs.values() if column not in row]
    if missing:
        raise BadInput(f'the row has no "{missing[0][:40]}" (data.columns)')
    taken = {*pairs, *pairs.values()}
    return {
        **{key: value for key, value in row.items() if key not in taken},
        **{name: row[column] for name, column in pairs.items()},
    }


def _left_out(row: Mapping[str, Any], of: Schema) -> set[str]:
    found = set[str]()
    if others := row.keys() - of.used:
        found = {str(key)[:40] for key in others - of.also_used(row) - ORIGINS if is_there(row[key])}
        if _is_wanted(row.get("label")) is not None:
            found.discard("label")
    for key in of.lists:
        if key in row:
            found |= _of_messages(row[key])
    found.update(of.left_out(row))
    return found


def _check_wanted(row: Mapping[str, Any]) -> None:
    """Raise `BadInput` for an answer that people found bad: KTO's rows say it with a label."""
    if "label" in row and _is_wanted(row["label"]) is False:
        raise BadInput("its answer is marked as one that is not wanted (label false, as KTO's rows have it)")


def _is_wanted(label: Any) -> bool | None:
    """What a label says of an answer, true or false, as a table's cell too; None for any other label."""
    if isinstance(label, str):
        label = {"true": True, "false": False}.get(label.lower())
    return label if isinstance(label, bool) else None


def _of_messages(messages: Any) -> set[str]:
    found = set[str]()
    if type(messages) is not list:
        messages = from_json(messages)
    for message in messages if isinstance(messages, list) else [messages]:
        if not isinstance(message, dict) or (len(message) == 2 and type(message.get("content")) is not list):
            continue
        others = message.keys() - used_of(message)
        found |= {f"{str(key)[:40]} of a message" for key in others if is_there(message[key]) and message[key] not in (False, 0)}
        found.update(unused_in(message.get(said_key(message))))
    return found


def _last_answer_only(conversation: Conversation) -> Conversation:
    answers = [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    earlier = set(answers[:-1])
    messages = tuple({**each, "weight": 0.0} if number in earlier else each for number, each in enumerate(conversation.messages))
    return Conversation(messages, conversation.tools, conversation.arguments, conversation.text)  # type: ignore[arg-type]
