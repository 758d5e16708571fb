"""Each schema in each container, with good, odd and broken rows: found out, the good ones used, the others with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.config.schema import Config, FoundSchema
from pipeline.dataset.inspection import begin
from pipeline.tokenization.messages import Conversation
from tests.pipeline.dataset.readers.containers import CONTAINERS, write

COUNT = 9


def turns(question: str, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def good(schema: str, number: int) -> dict[str, Any]:
    """A row whose answer holds `number`."""
    ask, answer = f"What is {number}?", f"Number {number}."
    rows: dict[str, dict[str, Any]] = {
        "chat_messages": {"messages": turns(ask, answer)},
        "instruction_output": {"instruction": ask, "input": "", "output": answer},
        "alpaca": {"instruction": ask, "input": "", "output": answer, "system": "Count.", "history": [["Hi", "Ho"]]},
        "sharegpt": {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": answer}]},
        "oasst": {"message_id": f"a{number}", "parent_id": f"q{number}", "role": "assistant", "text": answer, "lang": "en"},
        "prompt_completion": {"prompt": ask, "completion": answer},
        "preference": {"prompt": ask, "chosen": answer, "rejected": "No."},
        "text": {"text": f"{ask} {answer}"},
    }
    return rows[schema]


def rows_of(schema: str) -> list[dict[str, Any]]:
    found = [good(schema, number) for number in range(COUNT)]
    if schema != "oasst":
        return found
    questions = [{**row, "message_id": row["parent_id"], "parent_id": "", "role": "prompter", "text": "What?"} for row in found]
    return [*found, *questions]  # each answer stands before its question


# What says the answer of a row: emptied, the row is of its schema and can't be used.
ANSWER = {
    "chat_messages": ("messages", turns("What?", "")), "instruction_output": ("output", " "), "alpaca": ("output", " "),
    "sharegpt": ("conversations", [{"from": "human", "value": "What?"}, {"from": "gpt", "value": ""}]),
    "oasst": ("text", " "), "prompt_completion": ("completion", " "), "preference": ("chosen", " "), "text": ("text", " "),
}  # fmt: skip


def matrix() -> list[Any]:
    schemas, containers = get_args(FoundSchema), list(CONTAINERS)
    diagonal = {(schema, containers[at % len(containers)]) for at, schema in enumerate(schemas)}
    return [
        pytest.param(schema, container, marks=() if (schema, container) in diagonal else pytest.mark.matrix)
        for schema in schemas
        for container in containers
    ]


def said(conversation: Conversation) -> str:
    return conversation.text or conversation.messages[-1]["content"]


def numbers(conversations: list[Conversation]) -> list[int]:
    return sorted(int(said(each).rsplit("Number ", 1)[1].rstrip(".")) for each in conversations)


@pytest.mark.parametrize(("schema", "container"), matrix())
def test_good_odd_and_broken_rows_of_a_schema_in_a_container(tmp_path: Path, schema: str, container: str) -> None:
    key, empty = ANSWER[schema]
    odd = {**rows_of(schema)[0], **({"message_id": "odd"} if schema == "oasst" else {}), key: empty}
    beside = {**good(schema, 7), "made_by": "a person"}  # another key: used all the same, and the key is named
    first = good(schema, 7) if schema == "oasst" else beside  # pyarrow makes columns of the keys of the first row
    rows = [first, *rows_of(schema)[:7], odd, *rows_of(schema)[8:]]
    inspection, conversations = begin(write(tmp_path, container, rows), Config())
    found = list(conversations)
    assert inspection.schema == schema and numbers(found) == list(range(COUNT))
    if schema != "oasst":
        assert inspection.left_out.to_json()["made_by"]["rows"] == 1
        assert inspection.rejected.total == 1 and all("empty" in reason for reason in inspection.rejected.to_json())
    assert inspection.rows - inspection.used - inspection.duplicates.total == inspection.rejected.total


@pytest.mark.parametrize("schema", get_args(FoundSchema))
@pytest.mark.parametrize("container", ["jsonl", "array"])
def test_what_is_damaged_costs_itself_and_is_named(tmp_path: Path, schema: str, container: str) -> None:
    first, *others = (json.dumps(row) for row in rows_of(schema))
    path, some = tmp_path / "rows.json", [first, '{"broken": ', *others]
    path.write_text("\n".join(some) if container == "jsonl" else f"[{', '.join(some).replace(': ,', ': },')}]")
    inspection, conversations = begin(path, Config())
    assert numbers(list(conversations)) == list(range(COUNT))
    ((reason, where),) = inspection.rejected.to_json().items()
    assert "not JSON" in reason and where == {"rows": 1, "lines": [2]}
