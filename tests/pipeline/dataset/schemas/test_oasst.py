"""OpenAssistant's trees and messages: which conversations they become, and that nothing of them goes in silence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.dataset.inspection import begin
from pipeline.dataset.schemas.oasst import OTHER_REPLIES
from pipeline.dataset.schemas.oasst_trees import DELETED, FOREIGN, REVIEWED
from pipeline.dataset.sniff import reader_for

A, P = "assistant", "prompter"


def message(name: str, parent: str = "", role: str = A, **more: Any) -> dict[str, Any]:
    row = {"message_id": name, "role": role, "text": f"says {name}", "lang": "en", **more}
    return {**row, "parent_id": parent, "message_tree_id": "t"} if parent else {**row, "parent_id": None, "message_tree_id": "t"}


# q - best - more - end
#   |      \ more2 (a question without an answer)
#   - worse - again - end2
#   - gone (deleted), bad (review), nein (German)
MESSAGES = [
    message("q", role=P),
    message("worse", "q", rank=1),
    message("best", "q", rank=0),
    message("gone", "q", deleted=True, rank=2),
    message("bad", "q", review_result=False, rank=3),
    message("nein", "q", lang="de", rank=4),
    message("more", "best", role=P),
    message("more2", "best", role=P),
    message("end", "more"),
    message("again", "worse", role=P),
    message("end2", "again", rank=1),
    message("end1", "again", rank=0),
    message("dead", "gone", role=P),
]


def as_tree(messages: list[dict[str, Any]]) -> dict[str, Any]:
    by_id = {each["message_id"]: {**each, "replies": []} for each in messages}
    for each in by_id.values():
        if each["parent_id"]:
            by_id[each["parent_id"]]["replies"].append(each)
    (root,) = (each for each in by_id.values() if not each["parent_id"])
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": root}


def written(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def config(**oasst: Any) -> Config:
    return Config.model_validate({"data": {"oasst": oasst}})


def read(path: Path, **oasst: Any) -> tuple[Any, list[list[str]]]:
    """(the inspection, of each conversation what is said, answers that are not trained in brackets)."""
    inspection, conversations = begin(path, config(**oasst))
    said = [
        [f"({text})" if each.get("weight") == 0 else text for each in found.messages if (text := each["content"][5:])]
        for found in conversations
    ]
    return inspection, said


def shuffled(folder: Path, name: str) -> Path:
    """The messages with those of a second, smaller tree, in no order."""
    second = [message("2q", role=P), message("2worse", "2q", rank=1), message("2best", "2q", rank=0)]
    rows = [*MESSAGES, *second]
    Random(4).shuffle(rows)
    return written(folder, rows, name)


@pytest.mark.parametrize("form", ["tree", "rows.jsonl", "rows.jsonl.gz"])
def test_the_best_path_of_each_tree_whatever_form_it_is_in(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, [as_tree(MESSAGES)]) if form == "tree" else shuffled(tmp_path, form)
    inspection, said = read(path)
    assert inspection.schema == "oasst" and not inspection.rejected.total
    others = [] if form == "tree" else [["2q", "2best"]]
    assert sorted(said) == sorted([["q", "best", "more", "end"], *others])
    assert inspection.left_out.to_json().keys() == {OTHER_REPLIES, DELETED, REVIEWED}


@pytest.mark.parametrize("form", ["tree", "rows.jsonl"])
def test_all_paths_train_each_answer_once_and_end_with_one(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, [as_tree(MESSAGES)]) if form == "tree" else shuffled(tmp_path, form)
    inspection, said = read(path, paths="all", languages=["en"])
    mine = [each for each in said if each[0] == "q"]
    assert mine == [["q", "best", "more", "end"], ["q", "worse", "again", "end1"], ["q", "(worse)", "again", "end2"]]
    found = inspection.left_out.to_json()
    assert {name: each["rows"] for name, each in found.items()} == {DELETED: 1, REVIEWED: 1, FOREIGN: 1}
    raws = [raw.row for raw in reader_for(config(paths="all"), path).rows(path) if raw.row["prompt"]["message_id"] == "q"]
    assert len(raws) == 4 and {row["message_tree_id"] for row in raws} == {"t"}, "the split keeps a tree together by that"


def test_a_tree_in_another_language_and_one_that_was_given_up_say_so(tmp_path: Path) -> None:
    german = as_tree([message("f", role=P, lang="de"), message("a", "f", lang="de")])
    given_up = {**as_tree(MESSAGES), "tree_state": "aborted_low_grade"}
    path = written(tmp_path, [as_tree(MESSAGES), german, given_up])
    inspection, said = read(path, languages=["EN"])
    assert said == [["q", "best", "more", "end"]]
    assert {reason: each["lines"] for reason, each in inspection.rejected.to_json().items()} == {
        "the tree's first message is in another language (data.oasst.languages)": [2],
        "the tree was given up (aborted_low_grade)": [3],
    }
    assert len(read(path)[1]) == 2


def test_messages_that_belong_to_no_tree_are_named_with_their_lines(tmp_path: Path) -> None:
    circle = [message("x", "y"), message("y", "x", role=P)]
    path = written(tmp_path, [*MESSAGES[:3], message("orphan", "nobody"), message("below", "orphan", role=P), *circle])
    with path.open("ab") as file:
        file.write(b'{"broken\n')
    inspection, said = read(path)
    assert said == [["q", "best"]]
    assert {reason: each["lines"] for reason, each in inspection.rejected.to_json().items()} == {
        "the message that it replies to is not in the file": [4, 5],
        "the messages that it replies to have no first one": [6, 7],
        "not JSON: Unterminated string": [8],
    }


def test_any_path_is_found_again_for_a_screen(tmp_path: Path) -> None:
    path = shuffled(tmp_path, "rows.jsonl")
    for oasst in ({}, {"paths": "all"}):
        reader = reader_for(config(**oasst), path)
        rows, places = list(reader.rows(path)), list(reader.positions(path))
        with reader.access(path) as access:
            for raw, (number, position) in reversed(list(zip(rows, places, strict=True))):
                assert access.row_at(number, position) == raw
                assert raw.row["prompt"]["text"] in access.text_at(position, 1 << 20)
