from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from humigence_tui.background.run_endings import ending_text, terminal_notification
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.fold_cache import Summary
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import Status
from screens.frame.run_snapshot import RunRow
from screens.home.home import HomeScreen
from screens.home.home_text import row_of, status_text
from screens.widgets.table import Column, Table, widths
from tests.pilot import SIZES, Records, lines_of, shown, text_of, until
from tests.recordings.make import SHORT


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_all_runs_are_there_with_their_state(records: Records, size: tuple[int, int]) -> None:
    for number, name in enumerate(SHORT):
        records.write(name, project=f"p-{name.replace('_', '-')}"[:14], run_id=f"2025-11-{25 - number:02d}_09-00-00")
    app = records.app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and len(app.screen.runs or ()) == len(SHORT))
        await until(pilot, lambda: "3 running" in lines_of(app)[0])
        text = text_of(app)
        for words in (
            "training",
            "finished",
            "stopped",
            "crashed",
            "failed",
            "diverged",
            "stopped early",
            "prepared",
            "✘ 1 of 3",
        ):
            assert words in text
        # On top, whatever their age.
        await until(pilot, lambda: all(lines_of(app)[number].startswith((" ●", "▌●")) for number in (3, 4, 5)))


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_an_empty_place_says_what_to_do(records: Records, size: tuple[int, int]) -> None:
    app = records.app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "No runs in this folder yet." in text_of(app))
        await until(pilot, lambda: "starts one" in text_of(app) or "new run" in text_of(app))


async def test_a_run_under_the_cursor_stays_under_it_when_the_list_changes(records: Records) -> None:
    for number in range(3):
        records.write("finished", run_id=f"2025-11-0{number + 1}_09-00-00")
    app = records.app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await until(pilot, lambda: len(screen.runs) == 3)
        await pilot.press("down")
        chosen = screen.query_one(Table).key
        records.write("running", run_id="2025-11-20_09-00-00")
        await until(pilot, lambda: len(screen.runs) == 4)
        await pilot.pause()
        assert screen.query_one(Table).key == chosen
        assert screen.query_one(Table).cursor == 2


async def test_a_click_chooses_and_a_second_one_opens(records: Records) -> None:
    for number in range(3):
        records.write("finished", run_id=f"2025-11-0{number + 1}_09-00-00")
    app = records.app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await until(pilot, lambda: len(screen.runs) == 3)
        await pilot.click(Table, offset=(5, 2))
        await until(pilot, lambda: screen.query_one(Table).cursor == 1)
        await pilot.click(Table, offset=(5, 2))
        await until(pilot, lambda: type(app.screen).__name__ == "RunScreen")


async def test_a_click_on_a_key_of_the_last_line_presses_it(records: Records) -> None:
    records.write("finished")
    app = records.app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "? keys" in lines_of(app)[-1])
        await pilot.click(offset=(lines_of(app)[-1].index("? keys"), 23))
        await until(pilot, lambda: type(app.screen).__name__ == "KeysScreen")


async def test_leaving_with_a_run_on_asks_and_stop_and_save_is_passed_on(records: Records) -> None:
    run = records.write("running")
    app = records.app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: app._rows)
        await pilot.press("q")
        await until(pilot, lambda: "leave it running" in text_of(app))
        assert app.focused is not None and app.focused.answer.value == "leave"  # type: ignore[attr-defined]
        await pilot.press("right", "enter")
        await until(pilot, run.stop_request.exists)
    assert run.stop_request.read_text() == "save\n"


@pytest.mark.parametrize("screen", ["home", "run"])
async def test_a_run_that_is_seen_to_end_rings(records: Records, monkeypatch: pytest.MonkeyPatch, screen: str) -> None:
    run = records.write("running")
    records.write("finished", project="other")
    app = records.app(screen, **({"run": run} if screen == "run" else {}))
    rung: list[bool] = []
    monkeypatch.setattr(app, "bell", lambda: rung.append(True))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shown(pilot)
        await until(pilot, lambda: app._rows and any(row.live for row in app._rows))
        assert not rung
        writer = EventWriter(run)
        writer.emit(ev.RunFinished(0))
        writer.close()
        records.let_go()
        await until(pilot, lambda: rung)
        if screen == "home":  # said in words as well, as that run is not what one looks at
            await until(pilot, lambda: "support finished," in text_of(app))
        assert rung == [True]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("finished", "support finished, held-out loss 1.242"),
        ("gate_failed", "support finished, held-out loss 2.274, 2 of its gates failed"),
        ("stopped", "support stopped, saved at step 641"),
        ("crashed", "support: its process is gone at step 530"),
        ("failed", "support failed: out of GPU memory at step 131"),
    ],
)
def test_how_a_run_ended_is_said_in_a_line(records: Records, name: str, words: str) -> None:
    from humigence_tui.background.run_list import RunList

    run = records.write(name)
    row = RunList(records.workspace, lambda _: True)._row(run)
    assert ending_text(row)[0].startswith(words)


def test_a_notification_cannot_carry_a_sequence_of_its_own() -> None:
    sent = terminal_notification("evil\x1b]52;c;AAAA\x07 name" + "x" * 1000)
    assert sent.count("\x1b") == 1
    assert sent.count("\x07") == 1
    assert len(sent) < 300


def test_columns_that_do_not_fit_are_left_out_the_least_important_first() -> None:
    columns = (Column("a", 10), Column("b", 10, rank=2), Column("c", 10, rank=1, grows=1))
    assert widths(columns, 40) == [10, 10, 16]
    assert widths(columns, 30) == [10, 0, 18]
    assert widths(columns, 12) == [10, 0, 0]


async def test_where_there_is_room_the_run_under_the_cursor_is_shown_with_its_curve(records: Records) -> None:
    records.write("finished", run_id="2025-11-22_09-31-04")
    records.write("stopped", run_id="2025-11-21_09-31-04")
    app = records.app()
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "✔ gates" in text_of(app) and "held-out ◆" in text_of(app))
        await pilot.press("down")
        await until(pilot, lambda: "■ train" in text_of(app) and "✔ gates" not in text_of(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "held-out ◆" not in text_of(app) and "? keys" in lines_of(app)[-1])
        await pilot.resize_terminal(160, 48)
        await until(pilot, lambda: "■ train" in text_of(app))


async def test_with_many_runs_the_list_keeps_its_part_of_the_screen(records: Records) -> None:
    for number in range(60):
        records.write("stopped", run_id=f"2025-10-{number % 28 + 1:02d}_{number // 28:02d}-00-00")
    app = records.app()
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "held-out ◆" in text_of(app))
        await pilot.press("end")
        await until(pilot, lambda: app.screen.query_one(Table).cursor == 59)
        marked = next(number for number, line in enumerate(lines_of(app)) if line.startswith("▌"))
        assert 15 < marked < 24


async def test_the_data_of_a_run_is_a_key_away_and_that_of_the_config_without_one(records: Records) -> None:
    run = records.write("finished")
    app = records.app()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("i")
        await until(pilot, lambda: type(app.screen).__name__ == "DataScreen")
        assert app.screen.config.data.raw_path == run.load_config().data.raw_path  # type: ignore[attr-defined]


def test_a_run_that_is_not_read_yet_says_so_and_offers_nothing(records: Records) -> None:
    run = records.write("stopped")
    row = RunRow(run, "finished", Summary(), is_read=False)
    assert [part.plain for part in status_text(row)] == ["·", "being read"]
    assert not row.resumable
    cells = [cell.plain for cell in row_of(row, False, datetime(2027, 1, 1)).cells]
    assert [cell for cell in cells if cell] == ["·", "being read", "support", "22 Nov 2025"]


def test_the_time_of_a_run_that_is_on_goes_on_while_nothing_comes_of_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "support" / "2025-11-22_09-31-04")
    begun = datetime(2025, 11, 22, 9, 40).timestamp()
    summary = Summary(status="running", busy_seconds=60.0, busy_since=begun, current="preprocess")

    def shown(status: Status, minutes: int) -> str:
        row = row_of(RunRow(run, status, summary), False, datetime(2025, 11, 22, 9, 40 + minutes))
        return next(cell.plain for cell in row.cells if " m " in cell.plain)

    assert (shown("running", 2), shown("running", 5)) == ("3 m 0 s", "6 m 0 s")
    assert shown("crashed", 5) == "1 m 0 s"
