"""Rows that a person named for val and test: they are held out as they are, and nothing of them is trained."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.file import parse, problems, with_value, with_value_noted
from pipeline.config.schema import Config
from pipeline.dataset import processed, source
from pipeline.dataset.estimate import estimate_figures
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.hub.layout import Chosen
from pipeline.dataset.hub.rows import HubRows
from pipeline.dataset.leaks_without_model import leaks
from pipeline.dataset.processed import SPLITS, ProcessedData
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, Note
from pipeline.runs.folders import Workspace
from pipeline.steps import plan, preprocess, validate
from tests.conftest import chat_row, write_jsonl

LONG = "the long way from the sea to the hills and back again, past mills, fields and small white houses, "
TRAINED = [chat_row(f"What is thing {number}?", f"It is thing {number} of them.") for number in range(40)]
VAL = [chat_row(f"Where is place {number}?", f"At {number} miles from here.") for number in range(8)]
TEST = [chat_row(f"Who is person {number}?", f"Number {number} of the list.") for number in range(6)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "train.jsonl", TRAINED)
    write_jsonl(tmp_path / "val.jsonl", VAL)
    write_jsonl(tmp_path / "test.jsonl", TEST)
    return tmp_path


def config_of(model: Path, **data: Any) -> Config:
    return parse({"model": {"local_path": str(model)}, "data": {"raw_path": "train.jsonl", **data}}, "test")


def prepared(place: Path, model: Path, **data: Any) -> tuple[ProcessedData, list[str]]:
    events: list[Event] = []
    ctx = StepContext(config_of(model, **data), Workspace(place), emit=events.append)
    preprocess.run(ctx)
    found = processed.find_processed(ctx.config, ctx.workspace)
    assert found is not None
    return found, [event.text for event in events if isinstance(event, Note)]


def asked(data: ProcessedData, split: Any) -> list[str]:
    return [row["messages"][0]["content"] for row in data.rows(split)]


BOTH = {"val_path": "val.jsonl", "test_path": "test.jsonl"}


def test_both_are_held_out_whole_and_all_else_is_trained(place: Path, tiny_chatml_model: Path) -> None:
    data, notes = prepared(place, tiny_chatml_model, **BOTH)
    assert [len(asked(data, split)) for split in SPLITS] == [40, 8, 6]
    assert all(question.startswith("Where is") for question in asked(data, "val"))
    assert all(question.startswith("Who is") for question in asked(data, "test"))
    assert len(data.dataset("test")) == 6 and data.report["leaks"] == {}
    assert "val.jsonl: 8 rows as chat_messages, 8 val" in notes


@pytest.mark.parametrize(("own", "drawn"), [("val", "test"), ("test", "val")])
def test_of_one_that_is_not_named_a_share_is_drawn_of_the_rows(
    place: Path, tiny_chatml_model: Path, own: str, drawn: str
) -> None:
    data, _ = prepared(place, tiny_chatml_model, **{f"{own}_path": f"{own}.jsonl"})
    assert len(asked(data, own)) == {"val": 8, "test": 6}[own]
    assert len(asked(data, drawn)) == 4 and len(asked(data, "train")) == 36, "a tenth of the 40, and no share for the other"
    assert all(question.startswith("What is") for question in asked(data, drawn))


def test_what_is_in_them_or_belongs_to_them_is_left_out_of_train_and_told(place: Path, tiny_chatml_model: Path) -> None:
    answer = LONG + LONG.replace("sea", "lake") + LONG.replace("hills", "woods")
    tree = {"message_tree_id": "t1", **chat_row("Which tree?", "The tall one.")}
    held_out = [*VAL, chat_row("Say it at length.", answer), tree, chat_row(f"Tell me about {LONG}please.", "Gladly.")]
    write_jsonl(place / "val.jsonl", held_out)
    leaking = [
        VAL[0],
        chat_row("WHERE is place 1", "Nobody knows."),
        chat_row(f"Tell us about {LONG}please.", "No."),
        {"message_tree_id": "t1", **chat_row("And the other?", "It fell.")},
        chat_row("How does it go on?", answer.replace("small white houses", "small red houses", 1)),
        TEST[2],
    ]
    write_jsonl(place / "train.jsonl", [*TRAINED, *leaking])
    data, notes = prepared(place, tiny_chatml_model, **BOTH)
    assert sorted(asked(data, "train")) == sorted(row["messages"][0]["content"] for row in TRAINED)
    assert len(asked(data, "val")) == 11
    why = {reason: (each["rows"], each["lines"]) for reason, each in data.report["leaks"]["train"].items()}
    assert why == {
        "the same conversation": (2, [41, 46]),
        "the same first question": (1, [42]),
        "nearly the same first question": (1, [43]),
        "parts of one conversation or document": (1, [44]),
        "nearly the same answers": (1, [45]),
    }
    told = next(note for note in notes if "left out of train" in note)
    assert told.startswith("6 rows left out of train") and "1 row: nearly the same answers (row 45)" in told
    config = config_of(tiny_chatml_model, **BOTH)
    assert leaks(config, Workspace(place)) == data.report["leaks"], "and without a model, by words"


def test_what_val_has_of_test_is_left_out_of_val_since_nothing_may_have_looked_at_test(
    place: Path, tiny_chatml_model: Path
) -> None:
    write_jsonl(place / "val.jsonl", [*VAL, TEST[0], chat_row("Who is person 3", "I.")])
    data, notes = prepared(place, tiny_chatml_model, **BOTH)
    assert [len(asked(data, split)) for split in SPLITS] == [40, 8, 6]
    assert any("2 rows left out of val for the sake of data.test_path" in note for note in notes)


def test_each_is_read_as_it_is_written(place: Path, tiny_chatml_model: Path) -> None:
    folder = place / "held"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps([{"instruction": "Name one.", "output": "One."}]))
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps({"instruction": "Name two.", "output": "Two."}) + "\n")
    (place / "t.csv").write_text("frage,antwort\nWas?,Das.\nWer?,Der.\n")
    write_jsonl(place / "train.jsonl", [{"frage": f"Was ist {number}?", "antwort": "Ja."} for number in range(9)])
    columns = ["prompt=frage", "completion=antwort"]
    data, _ = prepared(place, tiny_chatml_model, val_path="held/*", test_path="t.csv", columns=columns)
    assert (asked(data, "val"), asked(data, "test")) == (["Name one.", "Name two."], ["Was?", "Wer?"])
    assert data.report["schema"] == "prompt_completion, instruction_output"


def test_several_sources_and_a_file_for_val(place: Path, tiny_chatml_model: Path) -> None:
    write_jsonl(place / "more.jsonl", [VAL[0], *({"prompt": f"Why {number}?", "completion": "So."} for number in range(20))])
    sources = [{"path": "train.jsonl", "weight": 2}, {"path": "more.jsonl"}]
    data, _ = prepared(place, tiny_chatml_model, source="several", sources=sources, val_path="val.jsonl")
    first, second, own = data.report["sources"]
    assert (first["val"], second["val"], own["val"]) == (0, 0, 8)
    assert first["test"] == 4 and second["test"] == 2 and own["split"] == "val"
    assert first["trained_an_epoch"] == 2 * first["train"] == 72


def test_a_data_set_of_the_hub_and_a_file_for_test(place: Path, tiny_chatml_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = {"source": "hub", "hub": {"repo": "owner/rows"}, "test_path": "test.jsonl"}
    config = config_of(tiny_chatml_model, **hub)
    assert processed.find_processed(config, Workspace(place)) is None and not source.is_here(config), "nothing is fetched yet"
    here = HubRows("owner/rows", "c0ffee", Chosen("default", "train", ("train.jsonl",)), "mit", place / "train.jsonl")
    monkeypatch.setattr(hub_rows, "find", lambda _hub: here)
    data, notes = prepared(place, tiny_chatml_model, **hub)
    assert [len(asked(data, split)) for split in SPLITS] == [36, 4, 6]
    assert any(note.startswith("owner/rows: 40 rows as chat_messages, 36 trained, 4 val, 0 test") for note in notes)


def test_shares_follow_what_is_named_and_come_back() -> None:
    loaded = with_value_noted(Config(), "data.val_path", "val.jsonl")
    named, notes = loaded.config, loaded.notes
    assert named.data.split.model_dump() == {"train": 0.9, "val": 0.0, "test": 0.1}
    assert "data.split.val follows: 0.1 → 0.0" in notes
    both = with_value(named, "data.test_path", "test.jsonl")
    assert both.data.split.model_dump() == {"train": 1.0, "val": 0.0, "test": 0.0}
    assert with_value(with_value(both, "data.test_path", ""), "data.val_path", "") == Config()
    by_hand = Config.model_validate({"data": {"val_path": "val.jsonl"}})
    assert by_hand.data.split.val == 0.1 and by_hand.data.shares.model_dump() == named.data.split.model_dump()


def test_a_file_that_is_not_there_or_holds_nothing_is_refused_by_its_setting(place: Path, tiny_chatml_model: Path) -> None:
    def refused(step: Any, **data: Any) -> str:
        with pytest.raises(BadInput) as error:
            step.run(StepContext(config_of(tiny_chatml_model, **data), Workspace(place)))
        return error.value.message

    assert refused(validate, val_path="vall.jsonl") == f"data.val_path: {place / 'vall.jsonl'}: no such file"
    assert (
        refused(plan, test_path="nowhere/*")
        == f"data.test_path: {place / 'nowhere/*'}: is a pattern without a file that can be read"
    )
    write_jsonl(place / "bad.jsonl", [{"nothing": 1}])
    assert refused(validate, test_path="bad.jsonl").startswith("data.test_path: none of the first 1 rows can be used")
    assert refused(preprocess, test_path="bad.jsonl").startswith("data.test_path: none of the rows of")
    assert refused(preprocess, val_path="train.jsonl").startswith("no row is left to train on\n40 rows left out of train")
    write_jsonl(place / "some.jsonl", [{"nothing": 1}, *TRAINED[:2]])
    assert "the same conversation (rows 2, 3)" in refused(preprocess, raw_path="some.jsonl", val_path="train.jsonl")
    assert "are the same" in str(problems({"data": {"val_path": "./a.jsonl", "test_path": "a.jsonl"}}))


def test_another_row_in_them_is_another_preparation(place: Path, tiny_chatml_model: Path) -> None:
    first, _ = prepared(place, tiny_chatml_model, **BOTH)
    write_jsonl(place / "val.jsonl", [*VAL, chat_row("One more?", "One.")])
    second, _ = prepared(place, tiny_chatml_model, **BOTH)
    assert first.fingerprint != second.fingerprint and len(asked(second, "val")) == 9
    one, other = (config_of(tiny_chatml_model, **{key: "val.jsonl"}) for key in ("val_path", "test_path"))
    digests = {processed.raw_digest_now(processed.raw_file(each, Workspace(place))) for each in (one, other)}
    assert len(digests) == 2, "the same file for another split"


def test_a_run_that_is_resumed_goes_on_with_the_held_out_rows_it_began_with(place: Path, tiny_chatml_model: Path) -> None:
    first, _ = prepared(place, tiny_chatml_model, **BOTH)
    config = config_of(tiny_chatml_model, **BOTH)
    raw = processed.raw_file(config, Workspace(place))
    write_jsonl(place / "val.jsonl", VAL[:2])
    with processed.as_begun({raw: first.report["raw_sha256"]}, first.folder):
        found, notes = prepared(place, tiny_chatml_model, **BOTH)
    assert found.fingerprint == first.fingerprint and len(asked(found, "val")) == 8
    assert any("one of train.jsonl, val.jsonl, test.jsonl has changed since the run began" in note for note in notes)


def test_an_estimate_counts_what_is_trained(place: Path, tiny_chatml_model: Path) -> None:
    assert estimate_figures(config_of(tiny_chatml_model, **BOTH), Workspace(place)).conversations == 40
    assert estimate_figures(config_of(tiny_chatml_model, val_path="val.jsonl"), Workspace(place)).conversations == 36
