"""Every key of the data and the chat screen is pressed and seen to do what it says (the table of `test_keys`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from pipeline.runs import store
from pipeline.runs.folders import Workspace
from screens.chat.conversation import Answer, Turn
from screens.data.columns import ROLES, ColumnsPane
from tests.conftest import chat_row, write_jsonl
from tests.pilot import until
from tests.screens.talk import Stage, packaged, settings

pytestmark = pytest.mark.usefixtures("jobs_ahead")

__all__ = ["packaged"]  # a fixture


@dataclass
class Case:
    """Press `keys`, the last of which is tested; `seen` must come true."""

    owner: str
    tested: str
    keys: list[str]
    seen: Callable[[Any], object]


def row_is(number: int) -> Callable[[Any], object]:
    return lambda app: app.screen.row and app.screen.row["row"] == number


def text_y(app: Any) -> int:
    return int(app.screen.query_one("#text").scroll_offset.y)


def mapped(app: Any) -> dict[str, str]:
    mapping: dict[str, str] = app.query_one(ColumnsPane).mapping
    return mapping


def pane(app: Any) -> Any:
    return app.screen.query_one("#tuned")


FOUND = ["slash", *"number", "enter"]
DATA = [
    *(Case("DataScreen", key, [key], row_is(2)) for key in ("right", "l")),
    *(Case("DataScreen", key, [key], row_is(5)) for key in ("left", "h", "end", "G")),
    Case("DataScreen", "home", ["right", "right", "home"], row_is(1)),
    *(Case("DataScreen", key, [key], lambda app: text_y(app) == 1) for key in ("down", "j")),
    *(Case("DataScreen", key, ["j", "j", key], lambda app: text_y(app) == 1) for key in ("up", "k")),
    *(Case("DataScreen", key, [key], lambda app: text_y(app) > 5) for key in ("pagedown", "space")),
    Case("DataScreen", "pageup", ["pagedown", "pageup"], lambda app: text_y(app) == 0),
    Case("DataScreen", "g", ["g"], lambda app: isinstance(app.focused, Input)),
    Case("DataScreen", "slash", ["slash"], lambda app: isinstance(app.focused, Input)),
    Case("DataScreen", "n", [*FOUND, "n"], row_is(2)),
    Case("DataScreen", "N", [*FOUND, "N"], row_is(5)),
    Case("DataScreen", "f", ["f"], lambda app: app.screen.only == "rejected" and app.screen.row["row"] == 3),
    Case(
        "DataScreen", "v", ["v"], lambda app: app.screen.query_one("#side").display and not app.screen.query_one("#text").display
    ),
    Case("DataScreen", "i", ["i"], lambda app: app.screen.inspected is not None),
    Case("DataScreen", "y", ["y"], lambda app: app.clipboard.startswith("<|user|>\nnumber 0")),
    Case("DataScreen", "c", ["c"], lambda app: isinstance(app.focused, ColumnsPane)),
    Case("ColumnsPane", "escape", ["c", "escape"], lambda app: not isinstance(app.focused, ColumnsPane)),
    Case("AskLine", "escape", ["slash", "x", "escape"], lambda app: app.focused is None and app.screen.row["row"] == 1),
]
# One pane alone, over columns "one", "two" and "three".
COLUMNS = [
    *(Case("ColumnsPane", key, [key, "p"], lambda app: mapped(app) == {"prompt": "two"}) for key in ("down", "j")),
    *(Case("ColumnsPane", key, ["j", "j", key, "p"], lambda app: mapped(app) == {"prompt": "two"}) for key in ("up", "k")),
    *(Case("ColumnsPane", key, [key], lambda app, name=name: mapped(app) == {name: "one"}) for key, (name, _) in ROLES.items()),
    *(
        Case("ColumnsPane", key, ["p", "j", "a", key], lambda app: mapped(app) == {"prompt": "one"})
        for key in ("backspace", "delete")
    ),
    Case("ColumnsPane", "enter", ["enter"], lambda app: app.saved == [True]),
]
TYPED: dict[str, Callable[[Any], object]] = {
    "f2": lambda app: app.screen.both and app.screen.query_one("#base").display,
    "f3": lambda app: app.screen.temperature == 0.3,
    "f4": lambda app: app.screen.longest == 512,
    "f5": lambda app: app.clipboard.startswith("an answer"),
    "f6": lambda app: not app.screen.conversation.turns,
}
CHAT = [
    *(Case("ChatScreen", key, [key], seen) for key, seen in TYPED.items()),
    # Letters are keys where nothing is typed.
    *(Case("ChatScreen", letter, ["tab", letter], seen) for letter, seen in zip("btmyc", TYPED.values(), strict=True)),
    Case("ChatScreen", "tab", ["tab"], lambda app: pane(app).has_focus),
    Case("ChatScreen", "up", ["up"], lambda app: pane(app).scroll_offset.y == pane(app).max_scroll_y - 1),
    Case("ChatScreen", "down", ["up", "up", "down"], lambda app: pane(app).scroll_offset.y == pane(app).max_scroll_y - 1),
    Case("ChatScreen", "pageup", ["pageup"], lambda app: pane(app).scroll_offset.y < pane(app).max_scroll_y - 5),
    Case("ChatScreen", "pagedown", ["pageup", "pagedown"], lambda app: pane(app).scroll_offset.y == pane(app).max_scroll_y > 0),
    *(Case("ChatPane", key, ["tab", "home", key], lambda app: pane(app).scroll_offset.y == 1) for key in ("down", "j")),
    *(Case("ChatPane", key, ["tab", "home", "j", "j", key], lambda app: pane(app).scroll_offset.y == 1) for key in ("up", "k")),
    Case("ChatPane", "pagedown", ["tab", "home", "pagedown"], lambda app: pane(app).scroll_offset.y > 5),
    Case("ChatPane", "pageup", ["tab", "home", "pagedown", "pageup"], lambda app: pane(app).scroll_offset.y == 0),
    Case("ChatPane", "home", ["tab", "home"], lambda app: pane(app).scroll_offset.y == 0 < pane(app).max_scroll_y),
    Case("ChatPane", "end", ["tab", "home", "end"], lambda app: pane(app).scroll_offset.y == pane(app).max_scroll_y > 0),
]
LOST = [*(Case("ChatScreen", key, [key], lambda app: app.screen.state in ("loading", "ready")) for key in ("f9", "r"))]
LOST_ROWS = [Case("DataScreen", "r", ["r"], lambda app: app.screen.row is not None and not app.screen.problem)]
EXERCISED = {(case.owner, case.tested) for case in [*DATA, *COLUMNS, *CHAT, *LOST, *LOST_ROWS]}


async def _press(pilot: Pilot[None], case: Case) -> None:
    assert case.keys[-1] == case.tested
    for key in case.keys:
        await pilot.press(key)
        await pilot.pause()
        screen: Any = pilot.app.screen
        # A row that was asked for is there before the next key.
        await until(pilot, lambda screen=screen: not getattr(screen, "_asked", 0))
    await until(pilot, lambda: case.seen(pilot.app))


async def _fresh(pilot: Pilot[None]) -> None:
    """The data screen as it opens: the first row, no filter, nothing searched for."""
    screen: Any = pilot.app.screen
    screen.panel_wanted, screen.only, screen._needle = False, "all", ""
    screen._wanted = 1
    screen._ask(1)
    await until(pilot, lambda: not screen._asked and screen.row["row"] == 1)
    screen.query_one("#text").scroll_home(animate=False)
    await pilot.pause()


async def test_the_keys_of_the_data_screen(workspace: Path, tiny_model: Path) -> None:
    long = " ".join(f"word {number}" for number in range(300))
    rows = [chat_row(f"number {number}", "Yes.") for number in range(5)]
    rows[0] = chat_row("number 0", long)
    rows[2] = chat_row("number 2 without an answer")
    write_jsonl(workspace / "rows.jsonl", rows)
    config = settings(tiny_model)
    config = config.model_copy(update={"data": config.data.model_copy(update={"max_seq_len": 4096})})
    app: Any = Stage(workspace, "data", config=config)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "counted", None) and app.screen.counted["finished"])
        await until(pilot, lambda: app.screen.row and not app.screen._asked)
        for case in DATA:
            await _fresh(pilot)
            await _press(pilot, case)
            if isinstance(app.focused, Input | ColumnsPane):
                await pilot.press("escape")
        os.kill(app.screen._job.pid, 9)
        await until(pilot, lambda: app.screen.problem)
        for case in LOST_ROWS:
            await _press(pilot, case)


class ColumnsApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.saved: list[bool] = []

    def compose(self) -> ComposeResult:
        yield ColumnsPane("columns")

    def on_columns_pane_done(self, event: ColumnsPane.Done) -> None:
        self.saved.append(event.saved)


async def test_the_keys_of_the_columns() -> None:
    app = ColumnsApp()
    async with app.run_test(size=(60, 12)) as pilot:
        pane = app.query_one(ColumnsPane)
        for case in COLUMNS:
            pane.begin(())
            pane.show([("one", "1"), ("two", "2"), ("three", "3")])
            await pilot.press(*case.keys)
            await pilot.pause()
            assert case.seen(app), case


def _turns() -> list[Turn]:
    return [
        Turn(f"question {number}", {side: Answer("an answer\n" * 9, "done") for side in ("tuned", "base")}) for number in range(5)
    ]


async def test_the_keys_of_the_chat_screen(packaged: Path) -> None:
    app: Any = Stage(packaged, "chat", run=store.find_run(Workspace(packaged)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "state", "") == "ready")
        screen = app.screen
        for case in CHAT:
            screen.both, screen.temperature, screen.longest = False, 0.0, 256
            screen.conversation.turns = _turns()
            screen._show_answers()
            screen.query_one(Input).focus()
            await pilot.pause()
            pane(app).scroll_end(animate=False, immediate=True)
            await _press(pilot, case)
            if app.screen is not screen:
                await pilot.press("escape")
        for case in LOST:
            os.kill(screen.job_pid, 9)
            await until(pilot, lambda: screen.state == "lost")
            await _press(pilot, case)
            await asyncio.sleep(0)
