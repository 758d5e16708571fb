"""A run's page: complete, of nothing from elsewhere, and safe whatever stands in the run."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.report.chart import Line, chart, smoothed
from pipeline.report.page import Reported, page
from pipeline.runs import event_log
from pipeline.runs import events as ev
from pipeline.runs.folders import Workspace
from tests.recordings import make

_VOID = {"meta", "line", "circle", "polyline"}
_EVIL = "<script>alert(1)</script>\x1b]52;c;OWNED\x07"


class Structure(HTMLParser):
    """Tags, and whether each that opens closes in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def structure(text: str) -> Structure:
    found = Structure()
    found.feed(text)
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run, as its log tells it."""
    return event_log.read_state(make.write(Workspace(tmp_path_factory.mktemp("reported")), "finished"))


def of(state: Any, **changes: Any) -> Reported:
    proof = {
        "program": "llama.cpp", "prompts": 12, "tokens": 300, "of": "held out (test)", "mean": 0.01, "worst": 0.1, "loss": 2.0,
        "expected": 2.0,
    }  # fmt: skip
    manifest = {"gguf_q8_0": {"proof": proof}}
    return replace(Reported("demo/one", Config(project="demo"), state, None, None, manifest, [("seed", "42")]), **changes)


def test_a_page_has_all_there_is_to_read_and_nothing_from_elsewhere(finished: Any) -> None:
    finished.packed.append(ev.Packed("artifacts/demo/gguf_q8_0", "gguf_q8_0", 1 << 20))
    text = page(of(finished))
    found = structure(text)
    assert found.headings == ["Curves", "Held-out rows", "Answers", "Exports", "Training", "Settings"]
    assert found.tags.count("svg") == 3 and "script" not in found.tags and "link" not in found.tags and found.links == []
    assert not re.search(r"url\(|@import|https?://", text.split("<section><h2>Settings")[0])
    assert "opened by llama.cpp: the same token ids in 12 prompts" in text and "@media print" in text
    assert all(each.prompt[:20].split("&")[0] in text for each in finished.answers)


def test_what_stands_in_a_run_is_shown_and_not_obeyed(finished: Any) -> None:
    answer = ev.Answered(_EVIL, _EVIL, _EVIL, (_EVIL,), ())
    hostile = replace(finished, answers=[answer], model=_EVIL)
    text = page(of(hostile, name=_EVIL, made_with=[("command", f"{_EVIL} HF_TOKEN=hf_{'a' * 34}")]))
    assert "<script" not in text and "\x1b" not in text and "hf_aaaa" not in text
    assert "&lt;script&gt;alert(1)" in text
    structure(text)


def test_a_run_that_has_only_begun_has_a_page_too() -> None:
    from pipeline.runs.state import RunState

    found = structure(page(of(RunState())))
    assert found.headings == ["Training", "Settings"] and "svg" not in found.tags


def test_a_chart_keeps_its_peaks_and_stays_in_its_frame() -> None:
    points = [(float(step), 1.0) for step in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    text = chart("loss", [Line("each step", [*points, (100_001.0, float("nan"))], "#000")])
    (path,) = re.findall(r'points="([^"]+)"', text)
    places = [tuple(map(float, each.split(","))) for each in path.split()]
    assert len(places) <= 700 and min(y for _, y in places) < 60, "the peak is there"
    assert all(0 <= x <= 720 and 0 <= y <= 260 for x, y in places)
    assert chart("loss", [Line("x", [], "#000")]) == "" and "svg" in chart("loss", [Line("x", [(1.0, 2.0)], "#000")])


def test_smoothing_begins_at_the_first_value() -> None:
    assert smoothed([(1.0, 4.0), (2.0, 4.0)]) == [(1.0, pytest.approx(4.0)), (2.0, pytest.approx(4.0))]
    assert [step for step, _ in smoothed([(1.0, float("nan")), (2.0, 1.0)])] == [2.0]


def test_the_file_that_can_not_be_written_is_told(tmp_path: Path, workspace: Path) -> None:
    from pipeline.common.errors import BadInput
    from pipeline.report import write

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "reported", lambda *_: None)
        patch.setattr(write, "page", lambda _: "text")
        with pytest.raises(BadInput, match="can't be written"):
            write.write_page(Workspace(workspace), None, tmp_path / "gone" / "page.html")  # type: ignore[arg-type]
