"""The rows of a file counted for a person come to what preparing them comes to, however many are looked at together."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.config.file import parse
from pipeline.dataset import processed
from pipeline.dataset.prepare import measure
from pipeline.jobs import rows as counting
from pipeline.jobs.server import Request
from pipeline.runs.folders import Workspace
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from screens.data.row_text import panel
from tests import tiny
from tests.conftest import chat_row, write_jsonl
from tests.pipeline.tokenization.samples import NOTHING_BEFORE


class Heard:
    """A request that remembers the last count."""

    def __init__(self) -> None:
        self.counted, self.finished = dict[str, Any](), threading.Event()

    def report(self, what: str, **values: Any) -> None:
        if what == "counted":
            self.counted = values
            if values["finished"]:
                self.finished.set()


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template makes several documents of one conversation, and that has no beginning for an answer."""
    return tiny.save_model(tmp_path_factory.mktemp("forgetful"), template=NOTHING_BEFORE, llama=False)


@pytest.mark.parametrize("at_once", [1, 3, 256])
def test_counting_comes_to_what_preparing_comes_to(
    at_once: int, workspace: Path, forgetful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinks = chat_row("Capital?", "<think>\nhm\n</think>\n\nParis.", "How many?", "<think>\nso\n</think>\n\nOne.")
    begins = {"messages": thinks["messages"][1:]}
    long = chat_row("Tell me.", "word " * 300)
    short = [chat_row(f"What is {number}?", f"A number, {number}.") for number in range(9)]
    written = [*short[:2], short[0], thinks, thinks, begins, short[2], begins, long, long, {"messages": []}, *short[3:], thinks]
    path = write_jsonl(workspace / "rows.jsonl", written)
    data = {"raw_path": str(path), "max_seq_len": 128, "over_long": "drop"}
    config = parse({"model": {"local_path": str(forgetful)}, "data": data}, "test")
    monkeypatch.setattr(counting, "_ROWS_AT_ONCE", at_once)
    heard = Heard()
    counting.RowBrowser().open(cast(Request, heard), config.model_dump(mode="json"), str(workspace))
    assert heard.finished.wait(60)
    measured = measure(path, config, ChatTokenizer.from_folder(forgetful), lambda *_: None)
    report, counted = measured.report, heard.counted
    assert (counted["kept"], counted["twins"], counted["rejected"]) == (11, 4, 3)
    assert (report["kept"], report["duplicates"], report["rejected_rows"]) == (11, 4, 3)
    assert counted["reasons"] == report["rejected"]
    assert counted["tokens"] == int(measured.lengths.sum())
    assert counted["splits"] == {name: split["conversations"] for name, split in report["splits"].items()}
    assert counted["histogram"] == counting.histogram(measured.lengths)


def test_what_belongs_to_held_out_rows_of_ones_own_is_shown_as_left_out(
    workspace: Path, tiny_chatml_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    rows = [chat_row(f"What is {number}?", f"A number, {number}.") for number in range(12)]
    write_jsonl(workspace / "train.jsonl", rows)
    write_jsonl(workspace / "test.jsonl", [rows[3], chat_row("what is 5", "Five."), chat_row("Who?", "I.")])
    data = {"raw_path": "train.jsonl", "test_path": "test.jsonl", "split": {"train": 1, "val": 0, "test": 0}}
    config = parse({"model": {"local_path": str(tiny_chatml_model)}, "data": data}, "test")
    browser, heard = counting.RowBrowser(), Heard()
    browser.open(cast(Request, heard), config.model_dump(mode="json"), str(workspace))
    assert heard.finished.wait(60)
    counted = heard.counted
    assert (counted["rows"], counted["kept"], counted["twins"], counted["left_out"]) == (15, 13, 0, 2)
    assert counted["splits"] == {"train": 10, "val": 0, "test": 3}
    assert {why: each["lines"] for why, each in counted["leaks"]["train"].items()} == {
        "the same conversation": [4], "the same first question": [6],
    }  # fmt: skip
    path = processed.raw_file(config, Workspace(workspace))
    measured = measure(path, config, ChatTokenizer.from_folder(tiny_chatml_model), lambda *_: None)
    assert counted["leaks"] == measured.report["leaks"] and counted["tokens"] == int(measured.lengths.sum())
    view = browser._rendered(5)
    assert view["reason"] == "the same first question as of held-out rows of your own" and view["split"] == ""
    text = panel(counted, 512, 60, 40).plain
    assert "2 rows left out of train for the sake of" in text and "left out (held out)" in text
