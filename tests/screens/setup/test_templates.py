"""The chat template in the wizard: the model's own unless it has none, and then a choice that can't be overlooked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from screens.setup.config_form import SettingRow
from screens.setup.wizard import WizardScreen
from screens.widgets.choices import Choices
from tests.screens.setup.conftest import LARGER_IN_TEST_ALL, saved, until, was_saved, wizard


def template_row(screen: WizardScreen) -> tuple[SettingRow, Choices]:
    row = next(row for row in screen.query(SettingRow) if row.field.key == "data.template")
    assert isinstance(row.control, Choices)
    return row, row.control


def settings(model: Path) -> Config:
    return Config(model={"local_path": str(model)}, data={"raw_path": "data/raw/support.jsonl"})  # type: ignore[arg-type]


@pytest.fixture
def plain(rows: Path, tiny_model: Path) -> Path:
    """A model without a chat template; its vocabulary has an end of text and no other special token to end a turn with."""
    folder = Path(shutil.copytree(tiny_model, rows / "plain"))
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_a_model_without_one_must_be_given_one_before_it_is_saved(rows: Path, plain: Path, size: tuple[int, int]) -> None:
    async with wizard(rows, size, config=settings(plain)) as (screen, pilot):
        await until(lambda: screen.outlook.templates is not None, "the model's files were read")
        row, choices = template_row(screen)
        assert not row.display, "basic does not ask what nearly every model answers itself"
        await pilot.press("ctrl+s")
        await until(lambda: row.display and choices.has_focus, "taken to the question")
        assert not was_saved(rows)
        await until(lambda: "plain has no chat template of its own" in row.problem)
        assert "it has none" in str(choices.render())
        choices.action_jump(4)
        await pilot.press("enter")
        assert screen.draft.value("data.template") == "zephyr"
        await until(lambda: not row.problem, "nothing is wrong any more")
        await pilot.press("ctrl+s")
        await until(lambda: was_saved(rows))
    assert saved(rows).data.template == "zephyr"


async def test_templates_the_vocabulary_cannot_write_say_so_and_cannot_be_taken(rows: Path, plain: Path) -> None:
    async with wizard(rows, (160, 48), config=settings(plain), advanced=True) as (screen, pilot):
        await until(lambda: screen.outlook.templates is not None, "the model's files were read")
        _, choices = template_row(screen)
        await until(lambda: any(option.reason == "not in its vocabulary" for option in choices.options))
        unfit = [option.value for option in choices.options if option.reason == "not in its vocabulary"]
        assert unfit == ["chatml", "llama-3", "gemma"]
        choices.focus()
        choices.action_jump(1)
        await pilot.press("enter")
        assert screen.draft.value("data.template") == "auto"
        await until(lambda: "plain has no token <|im_start|>" in screen.explained)


async def test_a_model_with_its_own_has_nothing_to_choose(rows: Path, tiny_model: Path) -> None:
    async with wizard(rows, config=settings(tiny_model)) as (screen, pilot):
        await until(lambda: screen.outlook.templates is not None, "the model's files were read")
        assert screen.outlook.templates is not None and screen.outlook.templates.own
        await pilot.press("ctrl+s")
        await until(lambda: was_saved(rows))
