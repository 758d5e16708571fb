"""Preprocess as a person meets it: a file goes in, prepared data and an honest report come out."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.common.errors import BadInput, MissingArtifact, Stopped
from pipeline.config.file import parse
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.dataset.packing import pack
from pipeline.dataset.processed import SPLITS, ProcessedData
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, Note, StepProgress
from pipeline.runs.folders import Workspace
from pipeline.runs.store import create
from pipeline.steps import preprocess
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.tokenization.special_tokens import SpecialTokens
from pipeline.tokenization.word_cache import Ids
from tests.conftest import chat_row, write_jsonl
from tests.processes import IMPORT_PATH
from tests.waiting import PATIENCE_S


class Desk:
    """A workspace, a config and the events of its steps."""

    def __init__(self, root: Path, model: Path) -> None:
        self.workspace, self.model, self.events = Workspace(root), model, list[Event]()

    def config(self, **data: Any) -> Config:
        return parse({"model": {"local_path": str(self.model)}, "data": {"raw_path": "rows.jsonl", **data}}, "test")

    def context(self, **data: Any) -> StepContext:
        return StepContext(self.config(**data), self.workspace, emit=self.events.append)

    def prepare(self, **data: Any) -> ProcessedData:
        preprocess.run(self.context(**data))
        found = processed.find_processed(self.config(**data), self.workspace)
        assert found is not None
        return found

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    def write(self, rows: list[dict[str, Any]]) -> Path:
        return write_jsonl(self.workspace.root / "rows.jsonl", rows)


@pytest.fixture
def desk(workspace: Path, tiny_chatml_model: Path) -> Desk:
    return Desk(workspace, tiny_chatml_model)


def rows(count: int) -> list[dict[str, Any]]:
    return [chat_row(f"What is {number}?", f"A number, {number}.") for number in range(count)]


def test_rows_are_prepared_anew_for_other_stop_tokens_and_found_again(desk: Desk, tmp_path: Path) -> None:
    """An answer is trained to the token that ends it; what an older version prepared names none and stays as it is."""
    desk.model = Path(shutil.copytree(desk.model, tmp_path / "model"))
    desk.write(rows(12))
    first = desk.prepare()
    named = desk.model / "generation_config.json"
    before = named.read_text()
    named.write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert processed.find_processed(desk.config(), desk.workspace) is None
    other = desk.prepare()
    assert other.fingerprint != first.fingerprint and other.report["stop_tokens"] == [2, 7]
    named.write_text(before)
    assert desk.prepare().fingerprint == first.fingerprint
    del first.report["stop_tokens"]
    (first.folder / "report.json").write_text(json.dumps(first.report))
    named.write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert processed.find_processed(desk.config(), desk.workspace).fingerprint == first.fingerprint


def trained_text(model: Path, data: ProcessedData) -> list[str]:
    tokenizer = ChatTokenizer.from_folder(model)
    documents = [document for split in SPLITS for document in data.dataset(split)]
    return [tokenizer.decode([label for label in document["labels"] if label != NOT_TRAINED]) for document in documents]


def left_behind(root: Path) -> list[str]:
    folder = root / "data" / "processed"
    return os.listdir(folder) if folder.exists() else []


# -------------------------------------------------------------------------------------------------- what comes out


def test_every_conversation_is_in_one_split_as_text_and_as_tokens(desk: Desk) -> None:
    desk.write(rows(40))
    data = desk.prepare()
    spoken = [row["messages"][1]["content"] for split in SPLITS for row in data.rows(split)]
    assert sorted(spoken) == sorted(f"A number, {number}." for number in range(40))
    assert trained_text(desk.model, data) == spoken
    assert [len(data.dataset(split)) for split in SPLITS] == [32, 4, 4]
    for split in SPLITS:
        documents = data.dataset(split)
        assert documents.features["input_ids"].feature.dtype == documents.features["labels"].feature.dtype == "int32"
        assert data.lengths(split).tolist() == [len(ids) for ids in documents["input_ids"]]
        trained = [sum(label != NOT_TRAINED for label in labels) for labels in documents["labels"]]
        assert data.trained_lengths(split).tolist() == trained
        assert all(labels[0] == NOT_TRAINED for labels in documents["labels"])


def test_figures_are_those_of_the_packed_training_rows(desk: Desk) -> None:
    desk.write(rows(40))
    short = {"max_seq_len": 128, "window_overlap": 16}
    data = desk.prepare(**short)
    lengths = data.lengths("train")
    figures = data.figures(desk.config(**short))
    assert (figures.conversations, figures.tokens, figures.exact) == (32, lengths.sum(), True)
    assert max(lengths) <= figures.row_tokens <= 128
    assert figures.rows == len(pack(lengths, figures.row_tokens)) <= 32
    assert data.figures(desk.config(**short, packing=False)).rows == 32
    assert figures.trained_tokens == data.trained_lengths("train").sum()


def test_bad_rows_are_left_out_and_told_with_their_lines(desk: Desk) -> None:
    good = [json.dumps(row) for row in rows(4)]
    bad = ["{", '{"messages": []}', "", json.dumps(chat_row("only a question")), "[]", json.dumps(chat_row("q", "  "))]
    path = desk.workspace.root / "rows.jsonl"
    path.write_text("\n".join([good[0], *bad, *good[1:], good[0], "{"]), encoding="utf-8")
    data = desk.prepare()
    report = data.report
    assert (report["rows"], report["kept"], report["rejected_rows"], report["duplicates"]) == (11, 4, 6, 1)
    assert report["duplicate_lines"] == [11]
    assert {reason: entry["lines"] for reason, entry in report["rejected"].items()} == {
        "not JSON: Expecting property name enclosed in double quotes": [2, 12],
        "there are no messages": [3],
        "there is no assistant turn to train on": [5],
        "not a JSON object": [6],
        "a message of the assistant is empty": [7],
    }
    assert any("6 of 11 rows left out" in note and "lines 2, 12" in note for note in desk.notes())


def test_what_the_template_refuses_is_reported(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests import tiny

    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + tiny.CHATML
    desk = Desk(workspace, tiny.save_model(tmp_path_factory.mktemp("strict"), template=refuses, llama=False))
    system = {"messages": [{"role": "system", "content": "Be kind."}, *chat_row("Hi", "Ho")["messages"]]}
    desk.write([*rows(3), system])
    report = desk.prepare().report
    assert report["rejected"] == {"the chat template refuses it: no system here": {"rows": 1, "lines": [4]}}


def test_the_same_conversation_twice_is_trained_once(desk: Desk) -> None:
    again = {"messages": [{"role": "user", "content": " What is 1?\r\n"}, {"role": "assistant", "content": "A number, 1."}]}
    desk.write([*rows(5), again, *rows(5)])
    report = desk.prepare().report
    assert (report["kept"], report["duplicates"]) == (5, 6)


def test_the_outcome_is_the_same_however_many_rows_and_words_are_taken_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.dataset import ordered_threads, prepare

    long, bad = chat_row("Tell me.", "word " * 300), {"messages": []}
    desk.write([*rows(60), long, bad, *rows(30), long, chat_row("Tell me.", "more " * 300), *rows(70)])
    first = desk.prepare(max_seq_len=64, over_long="drop")
    monkeypatch.setattr(prepare, "_BATCH_ROWS", 1)
    monkeypatch.setattr(ordered_threads, "_MOST_THREADS", 1)
    monkeypatch.setattr(SpecialTokens, "encode_all", lambda self, texts: Ids.of([self.encode(text) for text in texts]))
    before = first.folder.rename(first.folder.with_name("before"))
    second = desk.prepare(max_seq_len=64, over_long="drop")
    assert second.report == first.report
    for path in sorted(before.rglob("*")):
        if path.is_file() and path.name != "state.json":  # datasets' own names for what was read
            assert path.read_bytes() == (second.folder / path.relative_to(before)).read_bytes(), path.name


def test_a_conversation_that_was_refused_is_refused_again_not_called_a_duplicate(desk: Desk) -> None:
    # Whether it is too long is known only once it is in tokens; by then its twin has been read.
    long = chat_row("Tell me.", "word " * 300)
    desk.write([*rows(3), long, long, *rows(3), long])
    report = desk.prepare(max_seq_len=64, over_long="drop").report
    assert report["rejected"] == {"longer than 64 tokens (data.max_seq_len)": {"rows": 3, "lines": [4, 5, 9]}}
    assert (report["kept"], report["duplicates"]) == (3, 3)


def test_a_refused_document_does_not_shift_those_after_it(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # What the assistant says before anybody is not trained here: where it says more, that is; else the row is refused.
    from tests import tiny
    from tests.pipeline.tokenization.samples import NOTHING_BEFORE

    desk = Desk(workspace, tiny.save_model(tmp_path_factory.mktemp("nothing"), template=NOTHING_BEFORE, llama=False))
    talk = chat_row("Capital?", "<think>\nhm\n</think>\n\nParis.", "How many?", "<think>\nso\n</think>\n\nOne.")
    desk.write([{"messages": talk["messages"][1:2]}, {"messages": talk["messages"][1:]}, *rows(5)])
    data = desk.prepare(split={"train": 1, "val": 0, "test": 0})
    assert data.report["rejected_rows"] == 1
    trained = ["<think>\nso\n</think>\n\nOne.", *[f"A number, {number}." for number in range(5)]]
    assert [text.removesuffix("<|im_end|>") for text in trained_text(desk.model, data)] == trained


def test_what_answers_weigh_comes_with_their_tokens(desk: Desk) -> None:
    """In each split, in windows, and relative to the mean of the split; without weights there is no file of them."""

    def weighing(row: dict[str, Any], *weights: float) -> dict[str, Any]:
        for message, weight in zip(row["messages"][1::2], weights, strict=True):
            message["weight"] = weight
        return row

    some = [weighing(chat_row(f"Which, {n}?", f"Number {n}.", "And?", f"Then {n}."), 1, 0.5 + n) for n in range(40)]
    desk.write([*rows(20), *some, weighing(chat_row("All?", " ".join(f"word{n}" for n in range(200))), 7)])
    data = desk.prepare(max_seq_len=64, window_overlap=16)
    tokenizer, met = ChatTokenizer.from_folder(desk.model), set[float]()
    for split in SPLITS:
        weights = data.loss_weights(split)
        assert weights is not None
        sums = []
        for number, document in enumerate(data.dataset(split)):
            labels = np.array(document["labels"])
            found = weights.of(number, len(labels))[labels != NOT_TRAINED]
            sums.append(found)
            text = tokenizer.decode(labels[labels != NOT_TRAINED].tolist())
            its_own = [0.5 + int(part.split(".")[0]) for part in text.split("Then ")[1:]]
            wanted = {1.0, *its_own} if its_own else {7.0} if "word" in text else {1.0}
            assert set(np.round(found * weights.mean, 4).tolist()) == wanted, text
            met |= wanted
        assert float(np.concatenate(sums).mean()) == pytest.approx(1)
    assert met == {1.0, 7.0, *(0.5 + n for n in range(40))}
    assert data.report["weighted"] == 41 and any("41 rows weigh" in note for note in desk.notes())
    desk.write(rows(40))
    assert desk.prepare().loss_weights("train") is None


def test_rows_prepared_by_a_version_that_knew_no_weights_are_prepared_again(desk: Desk) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "weight": 2}]}
    desk.write([*rows(10), row])
    data = desk.prepare()
    report = data.report | {"left_out": {"weights other than 0 and 1 (they count as 1)": {"rows": 1, "lines": [11]}}}
    (data.folder / "report.json").write_text(json.dumps(report))
    assert not preprocess.is_unchanged(desk.context())
    with processed.as_begun({}, data.folder):  # a run that is resumed goes on with what it has
        assert preprocess.is_unchanged(desk.context())
    assert desk.prepare().report == data.report


def test_long_conversations_are_windowed_without_loss(desk: Desk) -> None:
    story = " ".join(f"word{number}" for number in range(300))
    desk.write([chat_row("Tell me.", story), *rows(3)])
    whole = desk.prepare(max_seq_len=4096, split={"train": 1, "val": 0, "test": 0})
    cut = desk.prepare(max_seq_len=64, window_overlap=16, split={"train": 1, "val": 0, "test": 0})
    assert cut.report["windowed_documents"] == 1 and cut.report["windows"] == len(cut.dataset("train")) - 3
    assert cut.lengths("train").max() == 64
    assert "".join(trained_text(desk.model, cut)) == "".join(trained_text(desk.model, whole))
    assert cut.report["conversation_tokens"]["max"] == whole.lengths("train").max(), "the report tells the true length"


def test_windows_of_a_long_question_are_dropped_and_counted(desk: Desk) -> None:
    desk.write([chat_row("why " * 300, "Because."), *rows(2)])
    data = desk.prepare(max_seq_len=64, window_overlap=16)
    assert data.report["windows_without_label"] > 0
    assert all(data.trained_lengths(split).min(initial=1) >= 1 for split in SPLITS)


def test_long_conversations_are_dropped_by_choice_and_counted(desk: Desk) -> None:
    desk.write([*rows(3), chat_row("Tell me.", "word " * 300)])
    report = desk.prepare(max_seq_len=64, over_long="drop").report
    assert report["rejected"] == {"longer than 64 tokens (data.max_seq_len)": {"rows": 1, "lines": [4]}}


def test_instruction_rows_with_input_are_prepared(desk: Desk) -> None:
    desk.write([{"instruction": "Add.", "input": "1 2", "output": str(number)} for number in range(5)])
    data = desk.prepare(schema="instruction_output")
    assert sorted(trained_text(desk.model, data)) == ["0", "1", "2", "3", "4"]
    assert next(data.rows("train"))["messages"][0] == {"role": "user", "content": "Add.\n\n1 2"}


def test_one_row_is_trained_on_and_the_empty_splits_are_told(desk: Desk) -> None:
    desk.write(rows(1))
    data = desk.prepare()
    assert [len(data.dataset(split)) for split in SPLITS] == [1, 0, 0]
    assert [data.lengths(split).size for split in SPLITS] == [1, 0, 0]
    assert len([note for note in desk.notes() if "too few rows" in note]) == 2


def asked_twice() -> list[dict[str, Any]]:
    """Two answers to each of forty questions."""
    return [chat_row(f"What is {number // 2}?", f"A number, {number}.") for number in range(80)]


def test_no_question_is_trained_and_held_out_and_what_was_grouped_is_told(desk: Desk) -> None:
    desk.write(asked_twice())
    data = desk.prepare()
    asked = {split: {row["messages"][0]["content"] for row in data.rows(split)} for split in SPLITS}
    assert not asked["train"] & (asked["val"] | asked["test"]) and not asked["val"] & asked["test"]
    assert (data.report["grouped"]["groups"], data.report["grouped"]["rows"]) == (40, 80)
    assert any("80 rows in groups that are never divided, 40 groups: 80 the same first question" in note for note in desk.notes())
    desk.events.clear()
    assert desk.prepare().fingerprint == data.fingerprint and not desk.notes()


def test_rows_that_an_older_version_divided_are_prepared_anew_only_where_a_group_came_apart(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.dataset import split as splits

    for content, outcome in ((rows(40), "unchanged"), (asked_twice(), "done")):
        desk.write(content)
        with monkeypatch.context() as then:
            then.setattr(splits, "brought_together", lambda drawn, *_: drawn)
            older = desk.prepare()
        report = {name: value for name, value in older.report.items() if name != "groups_version"}
        (older.folder / "report.json").write_text(json.dumps(report))
        assert preprocess.run(desk.context()).outcome == outcome
        found = processed.find_processed(desk.config(), desk.workspace)
        assert found is not None and (found.fingerprint == older.fingerprint) == (outcome == "unchanged")
        assert older.folder.is_dir(), "a run that began with it goes on with it"
        assert preprocess.run(desk.context()).outcome == "unchanged"
    assert any("of those that an earlier version held out belong to others that are trained" in note for note in desk.notes())


# ------------------------------------------------------------------------------------------------ what can't be


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "holds no rows", "one JSON object"),
        (b"\n\n \n", "holds no rows", "one JSON object"),
        (b'[\n{"messages": []}\n]\n', r"none of its 1 rows can be used\n  1 row: there are no messages \(row 1\)", "data.schema"),
        (b'{"instruction": "a", "output": true}\n', r"line 1", "data.schema"),
        (bytes(range(256)) * 4, "none of its", "data.schema"),
        (b"\x1f\x8b\x08\x00" + Random(0).randbytes(500), "the gzip file is damaged, what follows is lost", "data.schema"),
        ('{"messages": []}'.encode("utf-16"), "is UTF-16 text", "iconv -f UTF-16 "),
        ('{"messages": []}'.encode("utf-16-be"), "is UTF-16BE text", "iconv -f UTF-16BE "),
        (b'[{"messages": []},\n{"messages": [}]', "line 2: not JSON: Expecting value", "data.schema"),
        (b'[{"messages": []},\n{"mess', "line 2: the JSON array breaks off", "data.schema"),
    ],
    ids=[
        "empty",
        "blank",
        "array",
        "not text",
        "all bytes",
        "compressed",
        "utf-16",
        "utf-16 without a mark",
        "damaged array",
        "cut array",
    ],
)
def test_a_file_without_a_good_row_is_bad_input(desk: Desk, content: bytes, message: str, hint: str) -> None:
    (desk.workspace.root / "rows.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        preprocess.run(desk.context())
    assert hint in caught.value.hint
    assert left_behind(desk.workspace.root) == []


def test_a_file_of_which_nothing_can_be_read_is_told_before_anybody_has_waited_for_the_tokenizer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.workspace.root / "rows.jsonl").write_bytes(b"PAR1" + bytes(60))
    monkeypatch.setattr(ChatTokenizer, "load", lambda base: pytest.fail("loaded"))
    with pytest.raises(BadInput, match="is a Parquet file that can't be read"):
        preprocess.run(desk.context())


def test_rows_are_written_by_the_template_that_was_chosen(desk: Desk) -> None:
    desk.write(rows(3))
    own, chosen = desk.prepare(), desk.prepare(template="alpaca")
    assert own.folder != chosen.folder
    assert (own.report["template"], chosen.report["template"]) == ("auto", "alpaca")
    tokenizer = ChatTokenizer.from_folder(desk.model)
    texts = [tokenizer.decode(document["input_ids"], keep_special=True) for document in chosen.dataset("train")]
    assert texts and all(text.startswith("### Instruction:\nWhat is ") for text in texts)


def test_a_missing_raw_file_names_the_key(desk: Desk) -> None:
    with pytest.raises(BadInput, match=r"data\.raw_path: .*rows\.jsonl: no such file"):
        preprocess.run(desk.context())
    (desk.workspace.root / "rows.jsonl").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        preprocess.run(desk.context())


def test_a_missing_model_is_a_missing_artifact(desk: Desk) -> None:
    desk.write(rows(3))
    desk.model = desk.workspace.root / "nowhere"
    with pytest.raises(MissingArtifact):
        preprocess.run(desk.context())
    assert not preprocess.is_unchanged(desk.context())


@pytest.mark.parametrize("how", ["asked", "ctrl-c"])
def test_an_interrupted_preprocess_leaves_nothing(desk: Desk, how: str) -> None:
    desk.write(rows(50))
    asked = iter([None])  # the second time it asks, the answer is yes

    def emit(event: Event) -> None:
        if how == "ctrl-c" and isinstance(event, StepProgress) and event.done > 1:
            raise KeyboardInterrupt

    def stop() -> Any:
        return next(asked, "save") if how == "asked" else None

    context, searches = StepContext(desk.config(), desk.workspace, emit=emit, stop=stop), gc.get_threshold()
    with pytest.raises(Stopped if how == "asked" else KeyboardInterrupt):
        preprocess.run(context)
    assert left_behind(desk.workspace.root) == []
    assert gc.get_threshold() == searches
    assert processed.find_processed(desk.config(), desk.workspace) is None
    assert preprocess.run(desk.context()).outcome == "done"


# ---------------------------------------------------------------------------------------------- nothing changed


def test_prepared_data_is_found_again_and_made_anew_when_something_changed(desk: Desk) -> None:
    raw = desk.write(rows(20))
    assert not preprocess.is_unchanged(desk.context())
    assert preprocess.run(desk.context()).outcome == "done"
    assert preprocess.is_unchanged(desk.context())
    assert preprocess.run(desk.context()).outcome == "unchanged"
    os.utime(raw, (1, 1))
    assert preprocess.is_unchanged(desk.context()), "what counts is what the file says"
    assert preprocess.is_unchanged(desk.context(packing=False)), "packing happens later"
    for change in (
        {"max_seq_len": 64, "window_overlap": 8},
        {"over_long": "drop"},
        {"split": {"train": 0.5, "val": 0.5, "test": 0}},
    ):
        assert not preprocess.is_unchanged(desk.context(**change))
    desk.write(rows(21))
    assert not preprocess.is_unchanged(desk.context())


def test_another_chat_template_makes_it_anew(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests import tiny

    desk.write(rows(5))
    preprocess.run(desk.context())
    desk.model = tiny.save_model(tmp_path_factory.mktemp("other"), template=tiny.CHATML + " ", llama=False)
    assert not preprocess.is_unchanged(desk.context())


@pytest.mark.parametrize("already", [False, True])
def test_a_run_gets_its_own_copy_of_the_report(desk: Desk, already: bool) -> None:
    desk.write(rows(5))
    if already:
        preprocess.run(desk.context())
    run = create(desk.workspace, desk.config(), {})
    context = StepContext(desk.config(), desk.workspace, run)
    assert not preprocess.is_unchanged(context), "the run has no report yet"
    assert preprocess.run(context).outcome == ("unchanged" if already else "done")
    assert json.loads(run.preprocess_report.read_text())["kept"] == 5
    assert preprocess.is_unchanged(context)


def test_the_same_rows_are_prepared_the_same_in_another_place(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    desk.write(rows(30))
    first = desk.prepare()
    desk.workspace = Workspace(tmp_path_factory.mktemp("elsewhere"))
    desk.write(rows(30))
    second = desk.prepare()
    assert first.fingerprint == second.fingerprint
    for split in SPLITS:
        assert list(first.dataset(split)) == list(second.dataset(split))
        assert list(first.rows(split)) == list(second.rows(split))


# ------------------------------------------------------------------------------------------------- the demo, the disk


def test_the_bundled_demo_is_copied_and_prepared(desk: Desk) -> None:
    data = desk.prepare(source="bundled", raw_path="data/raw/oa.jsonl")
    copied = (desk.workspace.root / "data/raw/oa.jsonl").read_text(encoding="utf-8")
    assert len(copied.splitlines()) == 12 == data.report["kept"]
    assert [data.report["splits"][split]["conversations"] for split in SPLITS] == [10, 1, 1]
    roles = [[message["role"] for message in json.loads(line)["messages"]] for line in copied.splitlines()]
    assert any(row[0] == "system" for row in roles) and any(row.count("assistant") > 1 for row in roles)


def test_a_file_of_the_persons_own_is_never_replaced_by_the_demo(desk: Desk) -> None:
    desk.write(rows(3))
    assert desk.prepare(source="bundled").report["kept"] == 3


def test_progress_is_counted_in_rows(desk: Desk) -> None:
    desk.write(rows(30))
    desk.prepare()
    progress = [event for event in desk.events if isinstance(event, StepProgress)]
    assert (progress[-1].done, progress[-1].total, progress[-1].unit) == (30, 30, "rows")
    assert len(progress) < 30, "a few times a second, not at every row"


ALONE = """
import sys
from pathlib import Path
from pipeline.config.file import parse
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import preprocess
config = parse({"model": {"local_path": sys.argv[1]}, "data": {"raw_path": "rows.jsonl"}}, "x")
context = StepContext(config, Workspace(Path.cwd()))
before = preprocess.is_unchanged(context)
assert not {"torch", "transformers", "datasets", "tokenizers"} & set(sys.modules), "asking must stay light"
print(before, preprocess.run(context).outcome, preprocess.is_unchanged(context))
"""


def test_nothing_is_written_or_printed_but_the_prepared_data(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    desk.write(rows(10))
    outside = {name: tmp_path_factory.mktemp(name.lower()) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {name: str(folder) for name, folder in outside.items()} | {"PYTHONPATH": IMPORT_PATH}
    command = [sys.executable, "-c", ALONE, str(desk.model)]
    result = subprocess.run(
        command, cwd=desk.workspace.root, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (result.returncode, result.stdout) == (0, "False done True\n"), result.stderr
    assert "%|" not in result.stderr, "no progress bars"
    assert [str(file) for folder in outside.values() for file in folder.rglob("*") if file.is_file()] == []
    (made,) = (desk.workspace.root / "data/processed").iterdir()
    assert sorted(os.listdir(desk.workspace.root)) == ["data", "rows.jsonl"]
    kinds = ("", ".jsonl", ".lengths.npy", ".owners.npy", ".trained.npy")
    assert set(os.listdir(made)) == {split + kind for split in SPLITS for kind in kinds} | {"report.json"}


def test_generated_rows_are_written_where_the_config_says_and_prepared(desk: Desk) -> None:
    wanted = {"source": "generated", "raw_path": "data/raw/oa.jsonl", "generate": {"rows": 30}}
    data = desk.prepare(**wanted)
    assert data.report["kept"] == 30 and data.report["rejected_rows"] == data.report["duplicates"] == 0
    raw = desk.workspace.root / "data/raw/oa.jsonl"
    before = raw.read_bytes()
    raw.unlink()
    assert desk.prepare(**wanted).folder == data.folder, "the same rows come again"
    assert raw.read_bytes() == before
