"""Every key of the wizard's screens and parts does what it says. A key that is bound and not tested here fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.pilot import Pilot

from pipeline.config.schema import Config
from pipeline.dataset.schemas.registry import SCHEMA_CHOICES
from pipeline.runs import store
from pipeline.runs.folders import Workspace
from screens.doctor.doctor import DoctorScreen
from screens.frame.messages import RunStarted
from screens.frame.question import Question
from screens.run.run import RunScreen
from screens.setup.config_form import LineInput, SettingRow
from screens.setup.path_picker import PathInput
from screens.setup.plan import PlanScreen
from screens.setup.saved import SavedScreen
from screens.setup.wizard import WizardScreen
from screens.widgets.choices import Choices
from tests.pilot import text_of
from tests.screens.setup.conftest import saved, stage, until, was_saved, wizard

Check = Callable[[WizardScreen, Pilot[None]], Awaitable[None]]


def bound(owner: Any) -> set[str]:
    bindings = [Binding(*each) if isinstance(each, tuple) else each for each in owner.__dict__["BINDINGS"]]
    return {key for binding in bindings for key in binding.key.split(",")}


# Tested where what they do is: test_wizard.py, test_models.py, test_plan_and_doctor.py.
ELSEWHERE: dict[Any, set[str]] = {
    WizardScreen: {"a", "f2", "ctrl+s", "S", "f5"},
    PlanScreen: {"enter", "s", "S", "v", "u"},
    SavedScreen: {"p", "v", "S", "s"},
    DoctorScreen: {"r"},
    Choices: {"enter", "home", "slash"},
    LineInput: set(),
    PathInput: set(),
}


async def _moves(screen: WizardScreen, pilot: Pilot[None], choices: Choices, at: int, key: str, to: int) -> None:
    choices.focus()
    await until(lambda: choices.has_focus)
    choices.cursor = at
    await pilot.press(key)
    await until(lambda: choices.cursor == to, f"{key} moves from {at} to {to}")


async def _leaves(screen: WizardScreen, pilot: Pilot[None], widget: Any, key: str) -> None:
    widget.focus()
    await until(lambda: widget.has_focus)
    await pilot.press(key)
    await until(lambda: not widget.has_focus, f"{key} goes to another field")


CHOICES: dict[str, Check] = {
    "up": lambda screen, pilot: _moves(screen, pilot, screen.model.choices, 2, "up", 1),
    "k": lambda screen, pilot: _moves(screen, pilot, screen.model.choices, 2, "k", 1),
    "down": lambda screen, pilot: _moves(screen, pilot, screen.model.choices, 2, "down", 3),
    "j": lambda screen, pilot: _moves(screen, pilot, screen.model.choices, 2, "j", 3),
    "left": lambda screen, pilot: _moves(screen, pilot, screen.schema.choices, 1, "left", 0),
    "h": lambda screen, pilot: _moves(screen, pilot, screen.schema.choices, 1, "h", 0),
    "right": lambda screen, pilot: _moves(screen, pilot, screen.schema.choices, 1, "right", 2),
    "l": lambda screen, pilot: _moves(screen, pilot, screen.schema.choices, 1, "l", 2),
    "end": lambda screen, pilot: _moves(screen, pilot, screen.schema.choices, 1, "end", len(SCHEMA_CHOICES) - 1),
}


async def test_keys_of_a_list_of_choices(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        for check in CHOICES.values():
            await check(screen, pilot)


async def test_space_takes_a_choice_and_moving_past_an_end_leaves_the_list(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        await _moves(screen, pilot, screen.precision.choices, 0, "right", 1)
        await pilot.press("space")
        await until(lambda: screen.draft.value("train.precision_mode") == "lora_bf16")
        await _moves(screen, pilot, screen.gpu.choices, 1, "up", 0)
        await pilot.press("end", "down")
        await until(lambda: screen.model.choices.has_focus, "the next question")
        await pilot.press("home", "up")
        await until(lambda: screen.gpu.choices.has_focus, "the question before")


async def test_keys_of_a_line_of_text(rows: Path) -> None:
    async with wizard(rows, config=Config(), advanced=True) as (screen, pilot):
        control = screen.query_one("#set-train-lr", SettingRow).control
        for key in sorted(bound(LineInput)):
            await _leaves(screen, pilot, control, key)


async def test_tab_goes_on_to_the_next_part_and_back(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        await until(lambda: screen.gpu.choices.has_focus)
        await pilot.press("tab")
        await until(lambda: screen.model.choices.has_focus)
        await pilot.press("shift+tab")
        await until(lambda: screen.gpu.choices.has_focus)


async def test_keys_of_a_path(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        picker = screen.data.picker
        picker.input.focus()
        await pilot.press("end", "ctrl+u", *"data", "slash", *"raw", "slash")
        await until(lambda: picker.is_open, "paths are offered")
        await pilot.press("down", "down")
        assert picker.offers.pointed == 1
        await pilot.press("up")
        assert picker.offers.pointed == 0
        await pilot.press("up")
        assert picker.offers.pointed is None
        await pilot.press("escape")
        await until(lambda: not picker.is_open and screen.app.screen is screen, "esc closes the list, not the screen")
        await pilot.press("t")
        await until(lambda: picker.is_open, "typing opens it again")
        await pilot.press("tab")
        await until(lambda: picker.value == "data/raw/tasks.jsonl" and not picker.is_open, "tab completes")
        await pilot.press("end", "ctrl+u", *"data", "slash", *"raw", "slash")
        await until(lambda: picker.is_open)
        await pilot.press("down", "enter")
        await until(lambda: picker.value == "data/raw/support.jsonl" and not picker.is_open, "enter takes")
        for key in ("tab", "enter", "down", "up"):
            await _leaves(screen, pilot, picker.input, key)


async def test_the_mouse_does_what_the_keys_do(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        cells = screen.precision.choices.cells(screen.precision.choices.content_size.width)
        await pilot.click(screen.precision.choices, offset=(cells[2].start, 0))
        await until(lambda: screen.draft.value("train.precision_mode") == "lora_fp16")
        await pilot.click("#modes")
        await until(lambda: screen.advanced)
        await pilot.click("#modes")
        await until(lambda: not screen.advanced)
        picker = screen.data.picker
        picker.input.focus()
        await pilot.press("end", "ctrl+u", *"data", "slash", *"raw", "slash")
        await until(lambda: picker.is_open and picker.offers.region.height == 2, "paths are offered")
        place = None
        while place != (place := picker.offers.region):  # what is said of the path above may still push it down
            await pilot.pause(0.3)
        await pilot.click(picker.offers, offset=(3, 1))
        await until(lambda: picker.value == "data/raw/tasks.jsonl" and not picker.is_open)


async def test_sections_are_a_key_apart(rows: Path) -> None:
    async with wizard(rows, config=Config(), advanced=True) as (screen, pilot):
        await until(lambda: screen.gpu.choices.has_focus)
        await pilot.press("pagedown")
        await until(lambda: screen.model.choices.has_focus)
        await pilot.press("right_square_bracket")
        await until(lambda: screen.data.choices.has_focus)
        lit = {row.id: row.query_one(".label").styles.color.hex for row in screen.form.rows if row.id.startswith("question-")}
        await pilot.pause()
        assert [name for name, colour in lit.items() if list(lit.values()).count(colour) == 1] == ["question-data"]
        number = screen.query_one("#set-data-max_seq_len", SettingRow).control
        number.focus()
        await pilot.press("left_square_bracket")
        await until(lambda: screen.data.choices.has_focus, "a bracket is no part of a number")
        assert number.value == "1024"
        await pilot.press("left_square_bracket")
        await until(lambda: screen.model.choices.has_focus)
        await pilot.press("pageup")
        await until(lambda: screen.gpu.choices.has_focus)


async def test_the_plan_leaves_the_file_alone_and_starting_saves_it(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        app: Any = screen.app
        screen.form.enter({"data.raw_path": "data/raw/support.jsonl"})
        screen.gpu.choices.focus()
        await pilot.press("p")
        await until(lambda: isinstance(app.screen, PlanScreen) and app.screen.findings)
        assert "not saved: starting saves to configs/humigence.basic.json" in text_of(app)
        assert screen.draft.changed and not was_saved(rows)
        await until(lambda: screen.outlook.plan)
        await pilot.press("escape", "s")  # from the form as well, with what it takes
        await until(lambda: isinstance(app.screen, Question))
        asked = " ".join(text_of(app).replace("│", " ").split())
        assert " steps" in asked and "It is saved to configs/humigence.basic.json first." in asked
        await pilot.press("right", "enter")
        await until(lambda: app.started)
        assert saved(rows) == screen.draft.config() == app.started[0].config and not screen.draft.changed
        run = store.create(Workspace(rows), saved(rows), {})
        app.post_message(RunStarted(run, standing=False))
        await until(lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        await until(lambda: app.screen is app.screen_stack[0], "the runs, not the form that this one was made with")


async def test_d_shows_the_rows(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []
    monkeypatch.setattr(WizardScreen, "open", lambda self, name, **arguments: asked.append((name, arguments["config"])))
    async with wizard(rows, config=Config()) as (screen, pilot):
        screen.form.enter({"data.raw_path": "data/raw/support.jsonl"})
        screen.gpu.choices.focus()
        await pilot.press("d")
        await until(lambda: asked)
        assert asked == [("data", screen.draft.config())]


async def test_plan_and_doctor_scroll_and_look_again(rows: Path) -> None:
    async with stage(rows, "plan", (80, 16), config=Config(data={"source": "bundled"})) as (app, pilot):  # type: ignore[arg-type]
        screen: Any = app.screen
        await until(lambda: screen.findings is not None)
        await _scrolls(screen.query_one("#plan"), pilot, ("down", "up"), ("j", "k"))
        first = screen.findings
        await pilot.press("r")
        await until(lambda: screen.findings is not first)
        app.open("doctor")
        await until(lambda: isinstance(app.screen, DoctorScreen) and app.screen.checks)
        await _scrolls(app.screen.query_one("#report"), pilot, ("down", "up"), ("j", "k"), ("pagedown", "pageup"))


async def _scrolls(view: Any, pilot: Pilot[None], *pairs: tuple[str, str]) -> None:
    await until(lambda: view.max_scroll_y > 0, "something to scroll")
    for down, up in pairs:
        await pilot.press(down)
        await until(lambda: view.scroll_y > 0, down)
        await pilot.press(up)
        await until(lambda: view.scroll_y == 0, up)


TESTED: dict[Any, set[str]] = {
    WizardScreen: {"pagedown", "pageup", "right_square_bracket", "left_square_bracket", "p", "d", "s"},
    PlanScreen: {"r", "down", "j", "up", "k"},
    SavedScreen: set(),
    DoctorScreen: {"down", "j", "up", "k", "pagedown", "pageup"},
    Choices: {*CHOICES, "space"},
    LineInput: {"up", "down", "enter"},
    PathInput: {"down", "up", "tab", "enter", "escape"},
}


@pytest.mark.parametrize("owner", list(TESTED), ids=lambda owner: owner.__name__)
def test_no_key_is_without_a_test(owner: Any) -> None:
    assert bound(owner) == TESTED[owner] | ELSEWHERE[owner]
