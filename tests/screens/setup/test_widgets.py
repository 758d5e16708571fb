"""The parts of the form by themselves: where choices stand, what paths are offered, how long a bar is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.system.gpu import GIB
from screens.setup.cost_preview import Outlook
from screens.setup.memory_bar import PARTS, columns
from screens.setup.path_completion import common_start, completions
from screens.widgets.choices import Option, flowed


def test_choices_that_cant_be_taken_for_one_reason_say_it_once() -> None:
    options = [
        Option("a", "a"),
        Option("b", "b", reason="later"),
        Option("c", "c", reason="later"),
        Option("d", "d", reason="never"),
    ]
    assert [cell.note for cell in flowed(options, 80)] == ["", "", "later", "never"]


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=12), st.integers(16, 80))
def test_choices_side_by_side_stay_within_the_width(labels: list[str], width: int) -> None:
    options = [Option(label, label) for label in labels]
    cells = flowed(options, width)
    assert all(cell.end(options) <= width for cell in cells)
    assert [cell.index for cell in cells] == list(range(len(options)))


@given(st.lists(st.integers(0, 40 * GIB), min_size=6, max_size=6), st.integers(0, 80 * GIB), st.integers(0, 120))
def test_a_bar_is_never_longer_than_its_room_and_shows_the_whole_need(counts: list[int], free: int, width: int) -> None:
    memory = dict(zip(PARTS, counts, strict=True))
    parts = columns(memory, free, width)
    used = sum(count for _, count in parts)
    assert all(count >= 0 for _, count in parts)
    assert used == round(width * sum(counts) / max(free, sum(counts), 1))


@pytest.mark.parametrize(("need", "verdict"), [(8.9, "fits"), (9.5, "tight"), (10.1, "too much")])
def test_the_verdict_keeps_the_margin_the_plan_keeps(need: float, verdict: str) -> None:
    assert Outlook(memory={"weights": int(need * GIB)}, free_bytes=10 * GIB).verdict == verdict


def test_there_is_no_verdict_where_nothing_is_known() -> None:
    assert Outlook(free_bytes=GIB).verdict == "unknown"
    assert Outlook(memory={"weights": GIB}).verdict == "unknown"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/raw/a.jsonl", "data/raw/ab.JSONL", "data/raw/notes.txt", "data/raw/.hidden.jsonl", "data/raw/old/x.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "data/raw" / "evil\x1b[2J.jsonl").write_text("")
    return tmp_path


def test_files_of_the_kind_and_folders_are_offered(folder: Path) -> None:
    assert completions("data/raw/", folder, (".jsonl",)) == ["data/raw/a.jsonl", "data/raw/ab.JSONL", "data/raw/old/"]


def test_hidden_files_are_offered_once_a_dot_is_typed(folder: Path) -> None:
    assert completions("data/raw/.h", folder, (".jsonl",)) == ["data/raw/.hidden.jsonl"]


@pytest.mark.parametrize("text", ["nowhere/x", "data/raw/a.jsonl/", "a\0b/c", "~nobody-of-this-name/x", "/root/../\udcff/"])
def test_a_place_that_is_not_there_offers_nothing(folder: Path, text: str) -> None:
    assert completions(text, folder, (".jsonl",)) == []


def test_a_home_is_written_as_it_was_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert completions("~/da", Path("/"), (".jsonl",)) == ["~/data/"] or completions("~/da", Path("/"), ()) == []
    assert completions("~/data/raw/a", Path("/"), (".jsonl",)) == ["~/data/raw/a.jsonl", "~/data/raw/ab.JSONL"]


def test_completion_goes_as_far_as_it_is_certain() -> None:
    assert common_start("da", ["data/raw/a.jsonl", "data/raw/ab.jsonl"]) == "data/raw/a"
    assert common_start("data/raw/a", ["data/raw/a.jsonl", "data/raw/ab.jsonl"]) == "data/raw/a"
    assert common_start("x", []) == "x"
