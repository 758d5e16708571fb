"""With NO_COLOR set nothing but attributes is sent, and what colours tell is told all the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment

from humigence_tui.app import HumigenceApp
from pipeline.runs.folders import Workspace
from screens.frame import themes
from tests.pilot import Records, shown, until
from tests.recordings.make import write
from tests.screens.talk import Stage, rows, settings
from tests.terminal import Terminal

__all__ = ["rows"]  # a fixture
_ATTRIBUTES = {"", "0", "1", "2", "3", "4", "7", "9"}


def sent_codes(received: bytes) -> set[str]:
    return {code for codes in re.findall(r"\x1b\[([0-9;]*)m", received.decode(errors="replace")) for code in codes.split(";")}


def segments(app: Any) -> list[Segment]:
    return [segment for strip in app.screen._compositor.render_strips() for segment in strip]


def holding(app: Any, text: str) -> Segment:
    return next(segment for segment in segments(app) if text in segment.text)


def test_no_colour_reaches_the_terminal(tmp_path: Path) -> None:
    write(Workspace(tmp_path), "finished")
    with Terminal(tmp_path, NO_COLOR="1") as terminal:
        terminal.says("finished", "? keys")
        terminal.press("\x14")  # to the next look, of which there is none
        terminal.says("NO_COLOR is set")
        terminal.press("n")
        terminal.says("Precision", "? keys")
        terminal.press("\x11")
        assert terminal.ends() == 0
        codes = sent_codes(terminal.received)
        assert codes - _ATTRIBUTES == set()
        assert {"1", "2", "7"} <= codes, "bold, dim and reversed"


def test_a_terminal_of_sixteen_colours_is_sent_no_other_ones(tmp_path: Path) -> None:
    write(Workspace(tmp_path), "finished")
    with Terminal(tmp_path, TERM="xterm-16color", COLORTERM="") as terminal:
        terminal.says("finished", "? keys")
        terminal.press("\r")
        terminal.says("held-out", "esc back")
        terminal.press("\x11")
        assert terminal.ends() == 0
        codes = sent_codes(terminal.received)
        assert not {"38", "48"} & codes, "no colour by its number or its parts"
        assert codes & {str(number) for number in (*range(30, 38), *range(90, 98))}


@pytest.fixture
def no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.usefixtures("no_color")
async def test_trained_tokens_are_bold_and_those_seen_only_are_dim(rows: Path, tiny_model: Path) -> None:
    app: Any = Stage(rows, "data", config=settings(tiny_model))
    async with app.run_test(size=(80, 24)) as pilot:
        # Without the tokenizer, which comes a little later, nothing is trained yet.
        await until(pilot, lambda: getattr(app.screen, "row", None) and app.screen.row["documents"])
        await until(pilot, lambda: any("<|assistant|>" in each.text for each in segments(app)))
        trained, masked = holding(app, "I am sorry.").style, holding(app, "Where is parcel").style
        assert trained is not None and masked is not None
        assert (trained.bold, trained.dim, masked.bold, masked.dim) == (True, False, False, True)


@pytest.mark.usefixtures("no_color")
async def test_the_row_under_the_cursor_and_the_focused_answer_are_reversed(records: Records) -> None:
    write(records.workspace, "stopped", run_id="2025-11-20_09-31-04")
    records.write("running")
    app = HumigenceApp(records.workspace)
    assert app.theme == themes.NO_COLOR.name
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: any("training" in each.text for each in segments(app)))
        chosen, other = holding(app, "training").style, holding(app, "stopped").style
        assert chosen is not None and chosen.reverse and (other is None or not other.reverse)
        await pilot.press("q")
        await until(pilot, lambda: any("stay here" in each.text for each in segments(app)))
        focused, danger = holding(app, "leave it running").style, holding(app, "abort").style
        assert focused is not None and focused.reverse
        assert danger is not None and danger.bold and not danger.reverse


@pytest.mark.usefixtures("no_color")
async def test_curves_laid_over_one_another_end_in_their_number(records: Records) -> None:
    runs = [records.write("finished"), records.write("stopped", run_id="2025-11-20_09-31-04")]
    app = HumigenceApp(records.workspace, "compare", {"runs": runs})
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        plot = [strip.text for strip in screen.chart._strips if "│" in strip.text or "┤" in strip.text]
        ends = {line[column] for line in plot for column in range(10, len(line)) if line[column].isdigit()}
        assert {"1", "2"} <= ends, "\n".join(plot)
