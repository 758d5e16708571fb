"""The list of base models: narrowed by typing, and a gated one asked about without anybody waiting."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.hub import access
from pipeline.hub.repository import Repository
from screens.widgets.choices import Choices
from tests.hub import use_hub_home
from tests.screens.setup.conftest import until, wizard
from tests.waiting import PATIENCE_S

GATED = "meta-llama/Llama-3.2-1B-Instruct"


def shown(choices: Choices) -> list[str]:
    """Labels, as they stand below each other."""
    return [choices.options[cell.index].label for cell in choices.cells(60)]


async def test_typing_narrows_the_list_and_enter_takes_what_is_left(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        choices = screen.model.choices
        choices.focus()
        every = len(shown(choices))
        await pilot.press("slash", *"smollm2", "space", *"135", "x", "backspace")
        await until(lambda: shown(choices) == ["SmolLM2-135M-Instruct", "another"], "the list was narrowed")
        assert not screen.advanced, "letters are text here, not keys of the screen"
        await pilot.press("enter")
        await until(lambda: screen.draft.entries["model.repo"] == "HuggingFaceTB/SmolLM2-135M-Instruct")
        assert len(shown(choices)) == every


async def test_escape_ends_the_filter_and_not_the_wizard(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        choices = screen.model.choices
        choices.focus()
        before = choices.value
        await pilot.press("slash", *"nothing like this")
        await until(lambda: shown(choices) == ["another"])
        await pilot.press("escape")
        await until(lambda: len(shown(choices)) > 20)
        assert screen.is_current and choices.value == before


async def test_the_cursor_stays_on_its_model_when_the_order_changes(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        choices = screen.model.choices
        choices.focus()
        await pilot.press("down", "down")
        pointed = choices.pointed
        choices.show(reversed(choices.options), choices.value)
        assert choices.pointed == pointed


async def test_a_gated_model_is_asked_about_when_it_is_chosen_and_nothing_waits(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub_home(monkeypatch, rows / "hf")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    answer, asked = threading.Event(), []

    def slow(repository: Repository) -> None:
        asked.append(repository.name)
        answer.wait(PATIENCE_S)
        raise BadInput(f"model.repo: the licence of {repository.name} is not accepted by HF_TOKEN's account", "accept it")

    monkeypatch.setattr(access, "require_access", slow)
    async with wizard(rows, config=Config()) as (screen, pilot):
        assert asked == []
        screen.model.choices.focus()
        await pilot.press("slash", *"llama-3.2-1b", "enter")
        await until(lambda: asked == [GATED], "the hub was asked")
        await pilot.press("a")
        await until(lambda: screen.advanced, "the screen answers while the hub does not")
        assert not screen.model.problem
        answer.set()
        await until(lambda: f"the licence of {GATED} is not accepted" in screen.model.objection(screen.draft))
        await pilot.press("a")
        screen.model.choices.focus()
        await pilot.press("slash", *"smollm2-135", "enter")
        await until(lambda: screen.draft.entries["model.repo"] == "HuggingFaceTB/SmolLM2-135M-Instruct")
        assert screen.model.objection(screen.draft) == "" and asked == [GATED]
