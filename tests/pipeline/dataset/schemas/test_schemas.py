"""What a row of each schema means; that all of it is used, named or the reason why the row is rejected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, DataSection
from pipeline.dataset.cleaning import digest
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.row import conversation_of
from pipeline.dataset.schemas.read import Reading, read
from pipeline.dataset.schemas.registry import SCHEMAS, fitting
from pipeline.dataset.schemas.turns import USED_OF_ASSISTANT
from pipeline.tokenization.messages import Conversation

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASKED = {"role": "user", "content": "Warm in Oslo?"}


def reading(row: Mapping[str, Any], **data: Any) -> Reading:
    """The row as the schema that fits it reads it."""
    return read(row, DataSection.model_validate({"schema": fitting(row) or "chat_messages", **data}))


def said(row: Mapping[str, Any], **data: Any) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in reading(row, **data).conversation.messages]


HI_HO = [("user", "Hi"), ("assistant", "Ho")]


@pytest.mark.parametrize(
    ("row", "schema", "turns"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, "chat_messages", HI_HO),
        ({"messages": [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Ho"}]}, "chat_messages", HI_HO),
        ({"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}, "chat_messages", HI_HO),
        (
            {"messages": json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])},
            "chat_messages",
            HI_HO,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "value": "i"}]},
                    {"role": "assistant", "content": ["Ho"]},
                ]
            },
            "chat_messages",
            [("user", "H\ni"), ("assistant", "Ho")],
        ),
        (
            {"system": "S", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
            "chat_messages",
            [("system", "S"), *HI_HO],
        ),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}, "sharegpt", HI_HO),
        (
            {"conversation": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "system": "S"},
            "sharegpt",
            [("system", "S"), *HI_HO],
        ),
        ({"instruction": "Hi", "output": "Ho"}, "instruction_output", HI_HO),
        ({"instruction": "Hi", "input": " \n", "output": "Ho"}, "instruction_output", HI_HO),
        ({"instruction": "Hi", "input": None, "output": "Ho"}, "instruction_output", HI_HO),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            "instruction_output",
            [("user", "Add.\n\n1 2"), ("assistant", "3")],
        ),
        (
            {"instruction": "Hi", "output": "Ho", "system": "S", "history": [["a", "b"], ["c", "d"]]},
            "alpaca",
            [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), *HI_HO],
        ),
        ({"prompt": "Hi", "completion": "Ho"}, "prompt_completion", HI_HO),
        ({"question": "Hi", "answer": "Ho"}, "prompt_completion", HI_HO),
        ({"query": "Hi", "response": "Ho"}, "prompt_completion", HI_HO),
        (
            {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]},
            "prompt_completion",
            HI_HO,
        ),
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "No"}, "preference", HI_HO),
        (
            {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Ho"}, "rejected": {}},
            "preference",
            HI_HO,
        ),
        (
            {"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "rejected": []},
            "preference",
            HI_HO,
        ),
        ({"instruction": "Hi", "chosen": "Ho", "rejected": "No"}, "preference", HI_HO),
        (
            {
                "prompt": {
                    "role": "prompter",
                    "text": "Hi",
                    "replies": [
                        {"role": "assistant", "text": "worse", "rank": 1, "replies": []},
                        {"role": "assistant", "text": "Ho", "rank": 0, "replies": []},
                        {"role": "assistant", "text": "gone", "deleted": True, "replies": []},
                        {"role": "assistant", "text": "bad", "review_result": False, "replies": []},
                    ],
                }
            },
            "oasst",
            HI_HO,
        ),
    ],
)
def test_a_row_means_a_conversation(row: dict[str, Any], schema: str, turns: list[tuple[str, str]]) -> None:
    assert fitting(row) == schema and said(row) == turns


def test_what_a_row_says_of_calls_thoughts_and_tools_is_there() -> None:
    openai = {
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "12"},
            {"role": "assistant", "reasoning_content": "12 it is.", "content": "12 degrees."},
        ],
        "tools": [TOOL],
    }
    found = reading(openai).conversation
    assert found == Conversation(
        (
            {"role": "user", "content": "Warm in Oslo?"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", **CALL}]},
            {"role": "tool", "content": "12", "name": "weather", "tool_call_id": "1"},
            {"role": "assistant", "content": "12 degrees.", "reasoning_content": "12 it is."},
        ),
        (TOOL,),
    )
    parts = {
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "value": "Look."},
                    {"type": "tool_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                ],
            },
        ],
        "tools": json.dumps([TOOL["function"]]),
    }
    (_, answer), tools = reading(parts).conversation.messages, reading(parts).conversation.tools
    assert answer == {"role": "assistant", "content": "", "reasoning_content": "Look.", "tool_calls": [CALL]} and tools == (TOOL,)
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Warm?"},
            {"from": "function_call", "value": json.dumps(CALL["function"])},
            {"from": "observation", "value": "12"},
            {"from": "gpt", "value": "12."},
        ],
        "tools": [TOOL],
    }
    turns = reading(sharegpt).conversation.messages
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "assistant"] and turns[1]["tool_calls"] == [CALL]
    old = {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "function_call": CALL["function"]},
            {"role": "function", "name": "weather", "content": "12"},
            {"role": "assistant", "content": "12."},
        ],
        "functions": [TOOL["function"]],
    }
    assert reading(old).conversation.messages[1]["tool_calls"] == [CALL] and reading(old).conversation.tools == (TOOL,)


@pytest.mark.parametrize(
    ("keys", "weight"),
    [
        ({"weight": 0}, 0),
        ({"train": False}, 0),
        ({"loss": False}, 0),
        ({"loss_weight": 0.0}, 0),
        ({"train": True}, None),
        ({"weight": 1}, None),
        ({"weight": 0.5}, 0.5),
        ({"weight": 1, "train": False}, 0),
        ({"weight": 2, "train": True}, 2),
        ({"loss_weight": 0.25, "weight": 0.25, "loss": 1}, 0.25),
        ({"loss_weight": 3, "weight": 0}, 0),
    ],
)
def test_a_turns_weight_is_what_its_keys_say(keys: dict[str, Any], weight: float | None) -> None:
    row = {"messages": [ASKED, {"role": "assistant", "content": "b", **keys}]}
    assert reading(row) == Reading(reading(row).conversation, frozenset())
    assert reading(row).conversation.messages[1].get("weight") == weight


@pytest.mark.parametrize("keys", [{"weight": -1}, {"weight": "2"}, {"loss_weight": 1e7}, {"weight": 2, "loss_weight": 3}])
def test_a_weight_that_is_none_is_the_reason_why_a_row_is_rejected(keys: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="weight"):
        reading({"messages": [ASKED, {"role": "assistant", "content": "b", **keys}]})


def test_the_last_answer_alone_can_be_trained_and_what_is_asked_never_is() -> None:
    row = {"messages": [ASKED, {"role": "assistant", "content": "b"}, ASKED, {"role": "assistant", "content": "c"}]}
    assert [each.get("weight") for each in reading(row, train_on="last").conversation.messages] == [None, 0, None, None]
    pair = {"prompt": row["messages"], "chosen": [{"role": "assistant", "content": "d"}], "rejected": "e"}
    assert [each.get("weight") for each in reading(pair).conversation.messages] == [None, 0, None, 0, None]
    trl = {"prompt": row["messages"], "completion": "d"}
    assert [each.get("weight") for each in reading(trl).conversation.messages] == [None, 0, None, 0, None]


# ------------------------------------------------------------------------------------------------ nothing in silence

# For every schema a row that has a value under every key it uses.
FULL: dict[str, dict[str, Any]] = {
    "chat_messages": {
        "messages": [ASKED, {"role": "assistant", "content": "b"}],
        "tools": [TOOL],
        "system": "S",
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        "tools": [TOOL],
        "system": "S",
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "alpaca": {"instruction": "a", "input": "b", "output": "c", "system": "S", "history": [["d", "e"]]},
    "instruction_output": {"instruction": "a", "input": "b", "output": "c"},
    "prompt_completion": {"prompt": "a", "completion": "b", "system": "S", "tools": [TOOL]},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c", "system": "S", "tools": [TOOL]},
    "text": {"text": "a"},
    "oasst": {"prompt": {"role": "prompter", "text": "a", "replies": [{"role": "assistant", "text": "b", "replies": []}]}},
}
OTHER: Mapping[str, Any] = {
    "messages": [ASKED, {"role": "assistant", "content": "other"}],
    "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "other"}],
    "tools": [{"type": "function", "function": {"name": "other"}}],
    "history": [["other", "e"]],
    "chat_template_kwargs": {"enable_thinking": True},
    "prompt": "other",
}


def digest_of(row: Mapping[str, Any], schema: str) -> bytes:
    config = Config.model_validate({"data": {"schema": schema}})
    return digest(conversation_of(RawRow(1, dict(row)), config).conversation)


def test_every_schema_is_tried() -> None:
    assert set(FULL) == {each.name for each in SCHEMAS}


@pytest.mark.parametrize(("schema", "key"), [(schema, key) for schema, row in FULL.items() for key in row])
def test_rows_that_differ_in_any_used_key_are_no_duplicates(schema: str, key: str) -> None:
    row = FULL[schema]
    other = (
        {"role": "prompter", "text": "other", "replies": row[key]["replies"]} if schema == "oasst" else OTHER.get(key, "other")
    )
    changed = row | {key: other}
    if key == "rejected":  # named as left out instead
        assert digest_of(changed, schema) == digest_of(row, schema) and reading(row).left_out
    else:
        assert digest_of(changed, schema) != digest_of(row, schema)


@pytest.mark.parametrize("schema", FULL)
def test_any_other_key_of_a_row_is_named(schema: str) -> None:
    data = DataSection.model_validate({"schema": schema})
    before = read(FULL[schema], data).left_out
    assert read(FULL[schema] | {"source": "book", "images": ["a.png"]}, data).left_out - before == {"source", "images"}
    assert read(FULL[schema] | {"source": "", "images": [], "id": None}, data).left_out == before


@pytest.mark.parametrize(("row_key", "said_key"), [("messages", "content"), ("conversations", "value")])
def test_any_other_key_of_a_message_is_named(row_key: str, said_key: str) -> None:
    speaker = "role" if said_key == "content" else "from"
    answer = {speaker: "assistant", said_key: "b", "audio": {"id": 1}, "refusal": None}
    row = {row_key: [{speaker: "user", said_key: "a", "weight": 1, "emotion": "glad"}, answer]}
    assert reading(row).left_out == {"emotion of a message", "audio of a message", "weight of a message"}


@pytest.mark.parametrize("key", sorted(USED_OF_ASSISTANT - {"role", "from", "content", "value"}))
def test_every_key_of_a_message_that_counts_as_used_makes_a_difference(key: str) -> None:
    value: Any = {
        "tool_calls": [CALL],
        "function_call": CALL["function"],
        "weight": 0,
        "loss_weight": 0,
        "train": False,
        "training": False,
        "loss": False,
    }.get(key, "other")
    row = {"messages": [ASKED, {"role": "assistant", "content": "b"}, ASKED, {"role": "assistant", "content": "c"}]}
    changed = {"messages": [row["messages"][0], row["messages"][1] | {key: value}, *row["messages"][2:]]}
    assert digest_of(changed, "chat_messages") != digest_of(row, "chat_messages") and not reading(changed).left_out


# ------------------------------------------------------------------------------------------------------ out of shape


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, 'no list "messages"'),
        ({"messages": "hi"}, 'no list "messages"'),
        ({"messages": ["hi"]}, "not an object with role and content"),
        ({"messages": [{"content": "hi"}]}, 'a message has no "role"'),
        ({"messages": [{"role": "user"}]}, 'a message has no "content"'),
        ({"messages": [{"role": "user", "content": None}]}, '"content" of a message is not text'),
        ({"messages": [{"role": 3, "content": "hi"}]}, '"role" of a message is not text'),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "a part that is no text (image), which the model can't see",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "a part of a message is called text and has none"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "b", "tool_calls": [{"function": {}}]}]},
            "a tool call has no name",
        ),
        (
            {
                "messages": [
                    ASKED,
                    {"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]},
                ]
            },
            "the arguments of a tool call are no JSON object",
        ),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "b", "weight": -1}]},
            "neither true, false nor a number from 0 to a million",
        ),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "b", "weight": float("nan")}]},
            "neither true, false nor a number",
        ),
        ({"messages": [ASKED], "tools": "none"}, "the tools of the row are no list"),
        ({"messages": [ASKED], "tools": [{"x": 1}]}, "a tool of the row has no name"),
        ({"messages": [{"role": "system", "content": "a"}, ASKED], "system": "b"}, "another one among them"),
        ({"conversations": [{"from": "function_call", "value": "no JSON"}]}, "a tool call has no name"),
        ({"instruction": "x", "output": {"a": 3}}, '"output" of the row is not text'),
        ({"question": "x", "choices": ["a", "b"], "answer": 1}, "the answer is the number of a choice"),
        ({"prompt": "x", "completion": "y", "label": False}, "marked as one that is not wanted"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "no list of questions with their answers"),
        ({"prompt": {"role": "prompter", "text": "a", "deleted": True, "replies": []}}, "deleted or rejected in review"),
        ({"chosen": "a", "rejected": "b"}, "a preference pair has no question"),
    ],
)
def test_a_row_out_of_shape_says_what_is_wrong(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        reading(row)
    assert reason in caught.value.message


def test_columns_under_other_names_are_read_where_they_are_named() -> None:
    columns = ("prompt=frage", "completion=antwort")
    row = {"frage": "Hi", "antwort": "Ho", "quelle": "x"}
    found = read(row, DataSection.model_validate({"schema": "prompt_completion", "columns": columns}))
    assert [(each["role"], each["content"]) for each in found.conversation.messages] == HI_HO and found.left_out == {"quelle"}
    with pytest.raises(BadInput, match=r'no "antwort" \(data.columns\)'):
        read({"frage": "Hi"}, DataSection.model_validate({"schema": "prompt_completion", "columns": columns}))
    with pytest.raises(ValueError, match="NAME=COLUMN"):
        DataSection.model_validate({"columns": ["prompt"]})
