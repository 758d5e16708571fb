"""Several sources as one: each read as it is written, each held out, copies never on both sides."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.common.errors import BadInput
from pipeline.config.file import parse, problems, with_value
from pipeline.config.schema import Config
from pipeline.dataset import processed, sources
from pipeline.dataset.inspection import inspect
from pipeline.dataset.processed import SPLITS, ProcessedData
from pipeline.dataset.readers.manifest import sources_of
from pipeline.dataset.readers.registry import reader_of
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, Note
from pipeline.runs.folders import Workspace
from pipeline.steps import preprocess, validate
from tests.conftest import chat_row, write_jsonl

THINGS = [f"thing {number} {'xyz'[number % 3] * (number % 7)}" for number in range(40)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 conversations, and 20 questions in a table under German names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "chat.jsonl", [chat_row(f"What is {each}?", f"It is the {each} of them.") for each in THINGS])
    with (tmp_path / "fragen.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frage", "antwort"])
        table.writerows([f"Was ist {each}?", f"Das ist {each}, sonst nichts."] for each in THINGS[:20])
    return tmp_path


BOTH = [{"path": "chat.jsonl"}, {"path": "fragen.csv", "name": "fragen", "columns": ["prompt=frage", "completion=antwort"]}]


def config_of(model: Path, *entries: dict[str, Any], **data: Any) -> Any:
    return parse({"model": {"local_path": str(model)}, "data": {"source": "several", "sources": list(entries), **data}}, "test")


def prepared(place: Path, model: Path, *entries: dict[str, Any], **data: Any) -> tuple[ProcessedData, list[str]]:
    events: list[Event] = []
    ctx = StepContext(config_of(model, *entries, **data), Workspace(place), emit=events.append)
    preprocess.run(ctx)
    found = processed.find_processed(ctx.config, ctx.workspace)
    assert found is not None
    return found, [event.text for event in events if isinstance(event, Note)]


def said(data: ProcessedData, split: Any) -> list[str]:
    return [row["messages"][-1]["content"] for row in data.rows(split)]


def test_each_is_read_as_it_is_written_and_each_is_held_out(place: Path, tiny_chatml_model: Path) -> None:
    data, notes = prepared(place, tiny_chatml_model, *BOTH)
    first, second = data.report["sources"]
    assert (first["name"], first["schema"], first["rows"]) == ("chat.jsonl", "chat_messages", 40)
    assert (second["name"], second["schema"], second["rows"]) == ("fragen", "prompt_completion", 20)
    assert all(entry[split] > 0 for entry in (first, second) for split in SPLITS)
    assert [first["val"], second["val"]] == [4, 2]
    answers = [answer for split in SPLITS for answer in said(data, split)]
    assert len(answers) == 60 and any(answer.startswith("Das ist") for answer in said(data, "val"))
    assert any(note.startswith("fragen: 20 rows as prompt_completion") for note in notes)


def test_a_weight_copies_what_is_trained_and_nothing_that_is_held_out(place: Path, tiny_chatml_model: Path) -> None:
    heavy = [BOTH[0], {**BOTH[1], "weight": 2.5}]
    data, _ = prepared(place, tiny_chatml_model, *heavy)
    entry = data.report["sources"][1]
    assert entry["trained_an_epoch"] == round(2.5 * entry["train"])
    trained = data.report["sources"][0]["trained_an_epoch"] + entry["trained_an_epoch"]
    assert len(data.lengths("train")) == trained == len(data.dataset("train"))
    owners = {split: set(data.owners(split).tolist()) for split in SPLITS}
    assert not owners["train"] & (owners["val"] | owners["test"])
    assert all(np.unique(data.owners(split), return_counts=True)[1].max() == 1 for split in ("val", "test"))
    assert np.unique(data.owners("train"), return_counts=True)[1].max() == 3
    assert data.report["splits"]["train"]["documents"] == trained


def test_a_light_one_and_a_count_take_less_and_still_hold_out(place: Path, tiny_chatml_model: Path) -> None:
    data, _ = prepared(place, tiny_chatml_model, {**BOTH[0], "rows": 10}, {**BOTH[1], "weight": 0.5})
    counted, light = data.report["sources"]
    assert counted["train"] + counted["val"] + counted["test"] == 10 and counted["val"] == 1
    assert light["trained_an_epoch"] == 8 and light["val"] == 2


def test_another_weight_or_row_is_another_preparation_and_another_folder_is_not(place: Path, tiny_chatml_model: Path) -> None:
    def name(*entries: dict[str, Any]) -> str:
        path = sources.as_one(config_of(tiny_chatml_model, *entries), Workspace(place))
        return processed.raw_digest_now(path)

    first = name(*BOTH)
    assert first == name(*BOTH) and first != name(*BOTH[:1])
    assert first != name(BOTH[0], {**BOTH[1], "weight": 2}) and first != name(BOTH[0], {**BOTH[1], "rows": 3})
    moved = place / "elsewhere"
    moved.mkdir()
    (moved / "chat.jsonl").write_bytes((place / "chat.jsonl").read_bytes())
    assert name({"path": "elsewhere/chat.jsonl"}, BOTH[1]) == first
    with (place / "chat.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(chat_row("More?", "More.")) + "\n")
    assert name(*BOTH) != first


def test_a_row_is_found_in_its_source_and_named_by_it(place: Path, tiny_chatml_model: Path) -> None:
    folder = place / "folder"
    folder.mkdir()
    write_jsonl(folder / "b.jsonl", [chat_row("One?", "One."), {"nothing": 1}])
    path = sources.as_one(config_of(tiny_chatml_model, *BOTH, {"path": "folder", "name": "more"}), Workspace(place))
    reader = reader_of(path)
    rows = list(reader.rows(path))
    places = list(reader.positions(path))
    assert len(rows) == len(places) == 62 <= reader.count(path)
    with reader.access(path) as access:
        again = [access.row_at(number, position) for number, position in places]
    assert [(row.row, row.place, row.form) for row in rows] == [(row.row, row.place, row.form) for row in again]
    assert rows[-1].place == "more: b.jsonl line 2" and rows[40].place == "fragen: line 2"
    found = inspect(path, config_of(tiny_chatml_model, *BOTH))
    assert found.used == 61 and found.rejected.total == 1
    assert [each.title for each in sources_of(path)] == ["chat.jsonl", "fragen", "more"]


def test_copies_weigh_what_their_rows_say(place: Path, tiny_chatml_model: Path) -> None:
    rows = [chat_row(f"How is {each}?", f"Well, {each}.") for each in THINGS]
    rows[3]["messages"][-1]["loss_weight"] = rows[4]["messages"][-1]["loss_weight"] = 3
    write_jsonl(place / "weighed.jsonl", rows)
    everything = {"train": 1, "val": 0, "test": 0}
    data, _ = prepared(place, tiny_chatml_model, {"path": "weighed.jsonl", "weight": 2}, BOTH[1], split=everything)
    table = np.load(data.folder / "train.loss_weights.npy")
    assert len(table) == 4 and set(table["weight"]) == {3}
    assert list(table["document"]) == sorted(table["document"])
    assert sorted(data.owners("train")[table["document"]].tolist()) == [3, 3, 4, 4]


def test_a_source_of_trees_is_gathered_and_no_other_is(place: Path, tiny_chatml_model: Path) -> None:
    ask = {"message_id": "1", "parent_id": None, "message_tree_id": "1", "role": "prompter", "text": "Why?", "lang": "en"}
    answer = {**ask, "message_id": "2", "parent_id": "1", "role": "assistant", "text": "Because.", "rank": 0}
    write_jsonl(place / "messages.jsonl", [ask, answer])
    data, _ = prepared(place, tiny_chatml_model, {"path": "messages.jsonl", "name": "trees"}, *BOTH)
    assert [entry["kept"] for entry in data.report["sources"]] == [1, 40, 20]
    assert data.report["schema"] == "oasst, chat_messages, prompt_completion"


def test_naming_rows_says_where_they_come_from() -> None:
    several = with_value(Config(), "data.sources", '[{"path": "a.jsonl"}]')
    assert several.data.source == "several" and with_value(several, "data.sources", "[]").data.source == "local"
    hub = with_value(several, "data.hub.repo", "owner/name")
    assert hub.data.source == "hub" and with_value(hub, "data.raw_path", "a.jsonl").data.source == "local"


def test_what_is_missing_or_said_twice_is_refused_by_its_name(place: Path, tiny_chatml_model: Path) -> None:
    ctx = StepContext(config_of(tiny_chatml_model, *BOTH, {"path": "nowhere.jsonl"}), Workspace(place))
    with pytest.raises(BadInput, match=r"data\.sources: .*nowhere\.jsonl: no such file"):
        validate.run(ctx)
    wrong = {
        "two are called chat.jsonl": {"source": "several", "sources": [BOTH[0], BOTH[0]]},
        "there are none": {"source": "several"},
        "a path, or the repo": {"sources": [{"path": "a", "repo": "b/c"}]},
        "columns": {"sources": [{"path": "a", "columns": ["x"]}]},
        "weight": {"sources": [{"path": "a", "weight": 0}]},
    }
    for text, data in wrong.items():
        assert text in str([*map(str, problems({"data": data}))]), text
