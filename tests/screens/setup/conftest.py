"""A stage for single screens: the app without a terminal, what a screen asks of it written down instead of done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events, on
from textual.pilot import Pilot
from textual.widgets import Input

from humigence_tui.app import HumigenceApp
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.runs.folders import Workspace
from screens.frame import messages
from screens.setup.form_values import Field, as_entry
from screens.setup.wizard import WizardScreen
from screens.widgets.choices import Choices
from tests.conftest import chat_row, write_jsonl
from tests.waiting import PATIENCE_S

SIZES = [(80, 24), (160, 48)]
# The larger one, of what takes seconds, is left to `make test-all`.
LARGER_IN_TEST_ALL = [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.matrix)]


class Stage(HumigenceApp):
    """Starts nothing: keeps what was asked for."""

    def __init__(self, root: Path, first: str, arguments: dict[str, Any]) -> None:
        super().__init__(Workspace(root), first, arguments)
        self.started: list[messages.StartRun] = []

    def _start_threads(self) -> None:
        pass

    @on(messages.StartRun)
    def _start_run(self, message: messages.StartRun) -> None:
        message.prevent_default()
        self.started.append(message)


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Wait for a state of the app."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never happened: {what or condition}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(root: Path, first: str, size: tuple[int, int], **arguments: Any) -> AsyncIterator[tuple[Stage, Pilot[None]]]:
    app = Stage(root, first, arguments)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: app.screen.is_mounted and app.screen.is_current, "the first screen")
        yield app, pilot


@asynccontextmanager
async def wizard(
    root: Path, size: tuple[int, int] = (80, 24), **arguments: Any
) -> AsyncIterator[tuple[WizardScreen, Pilot[None]]]:
    async with stage(root, "wizard", size, **arguments) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, WizardScreen)
        await until(lambda: screen.focused is not None and screen._facts is not None, "the machine was read")
        yield screen, pilot


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is asked for by the tests that ask for it."""
    monkeypatch.delenv("TRAIN", raising=False)


@pytest.fixture
def rows(workspace: Path) -> Path:
    """A workspace with a chat file `data/raw/support.jsonl` of three rows, and one of instructions."""
    write_jsonl(workspace / "data/raw/support.jsonl", [chat_row(f"Question {i}?", f"Answer {i}.") for i in range(3)])
    write_jsonl(workspace / "data/raw/tasks.jsonl", [{"instruction": f"Do {i}", "output": f"Done {i}"} for i in range(2)])
    return workspace


def saved(root: Path, path: str = config_file.DEFAULT_CONFIG) -> Config:
    return config_file.load(path, root)


def was_saved(root: Path, path: str = config_file.DEFAULT_CONFIG) -> bool:
    return (root / path).exists()


# ------------------------------------------------------------------------------------------- values, by the model


# Settings whose values depend on each other, or on what is on the disk.
_TOGETHER: dict[str, Any] = {
    "data.split.train": 0.6,
    "data.split.val": 0.25,
    "data.split.test": 0.15,
    "project": "another-name",
    "compute.gpu": "cpu",
    "model.local_path": None,
    "model.repo": "somebody/some-model",
    "data.raw_path": "data/raw/tasks.jsonl",
    "data.columns": ["prompt=instruction", "completion=output"],
    "data.val_path": "data/raw/val.jsonl",
    "data.test_path": "data/raw/test.jsonl",
    "data.source": "local",
}


def another_value(field: Field) -> Any:
    """A value of the setting that is not its default and that the config model takes; the only one where there is no other."""
    if field.key in _TOGETHER:
        return _TOGETHER[field.key]
    for value in _candidates(field):
        document = Config().to_json()
        inner = document
        *sections, name = field.key.split(".")
        for section in sections:
            inner = inner[section]
        inner[name] = value
        if value != field.default and not config_file.problems(document):
            return value
    return field.default


def _candidates(field: Field) -> Iterator[Any]:
    if field.kind == "choice":
        yield from field.options
    if field.kind == "choices":
        yield list(field.options)
        yield list(field.options[1:])
    if field.kind == "list":
        names = field.default if isinstance(field.default, list) else []
        yield [*names, "gate_proj"]
        yield ["facts", "json"]
        yield [*names, "prompt=frage"]
    if field.kind == "json":
        yield [{"path": "a.jsonl", "weight": 2.0}]
    if field.kind == "text":
        yield f"{field.default or ''}x"
    yield from (7, 0.5, 17, 1.5, 64, 3000)


async def enter(pilot: Pilot[None], control: Choices | Input, field: Field, value: Any) -> None:
    """Enter a value by keys."""
    control.focus()
    await until(lambda: control.has_focus)
    entry = as_entry(field, value)
    if isinstance(control, Input):
        # Pasted: typing letter by letter is tested elsewhere, and every press waits for an idle processor.
        await pilot.press("end", "ctrl+u")
        control.post_message(events.Paste(entry))
        await until(lambda: control.value == entry)
        return
    wanted = entry if isinstance(entry, tuple) else tuple(entry.split(", ")) if control.multiple else (entry,)
    await pilot.press("home")
    for index, option in enumerate(control.options):
        if (option.value in wanted) != control.is_taken(index) and (control.multiple or option.value in wanted):
            await until(lambda: control.cursor == 0 or control.multiple)
            await pilot.press(*["right" if control.flow else "down"] * (index - control.cursor), "enter")
