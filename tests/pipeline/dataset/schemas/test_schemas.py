"""What a row of each schema means, and what is reported of one out of shape."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.registry import fitting, schema
from tests.pipeline.dataset.turns import turns


def test_both_schemas_mean_a_conversation() -> None:
    row = {"messages": [{"role": "user", "content": "Hi", "weight": 1}, {"role": "assistant", "content": "Ho"}], "id": 7}
    assert schema("chat_messages").messages(row) == turns(("user", "Hi"), ("assistant", "Ho"))
    row = {"instruction": "Add.", "output": "3"}
    assert schema("instruction_output").messages(row) == turns(("user", "Add."), ("assistant", "3"))
    for nothing in ("", " \n", None):
        assert schema("instruction_output").messages(row | {"input": nothing}) == schema("instruction_output").messages(row)
    assert schema("instruction_output").messages(row | {"input": "1 2"}) == turns(("user", "Add.\n\n1 2"), ("assistant", "3"))
    assert (fitting(row), fitting({"messages": []}), fitting({})) == ("instruction_output", "chat_messages", None)


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
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, '"content" of a message is not text'),
    ],
)
def test_rows_out_of_shape_say_what_is_missing(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        schema("chat_messages").messages(row)


@pytest.mark.parametrize("row", [{"instruction": "x"}, {"output": "x"}, {"instruction": "x", "output": 3}])
def test_instruction_rows_out_of_shape_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"(instruction|output)"):
        schema("instruction_output").messages(row)
