"""What a person may want elsewhere can be copied: from a list on every screen, and by marking it with the mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from screens.setup.plan import PlanScreen
from screens.setup.saved import SavedScreen
from screens.widgets.choices import Choices
from tests.pilot import Records, shown, text_of, until


def offered(app: Any) -> dict[str, str]:
    return {each.name: each.text for each in app.screen.copyables() if each.text}


async def test_a_run_offers_its_folder_its_commands_and_its_newest_answer(records: Records) -> None:
    run = records.write("stopped")
    app = records.app("run", run=run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shown(pilot)
        found = offered(app)
        assert found["folder"] == str(run.path)
        assert found["command"] == f"humigence runs show {run.project}/{run.run_id}"
        assert found["resume"] == f"humigence pipeline --train --resume {run.project}/{run.run_id}"
        assert any(name.startswith("answer of step") for name in found)
        await pilot.press("Y")
        await until(pilot, lambda: "Copy to the clipboard" in text_of(app))
        assert str(run.path)[:20] in text_of(app), "a taste of each text stands beside its name"
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.clipboard == found["command"])
        await until(pilot, lambda: "In the clipboard: command." in text_of(app))


@pytest.mark.parametrize(("name", "words"), [("diverged", "diverged"), ("gate_failed", "")])
async def test_the_words_of_an_error_come_first(records: Records, name: str, words: str) -> None:
    app = records.app("run", run=records.write(name))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        first = app.screen.copyables()[0]  # type: ignore[attr-defined]
        assert (first.name == "error" and words in first.text) if words else first.name == "folder"


async def test_results_offer_the_package_both_answers_and_the_command_that_asks_it(records: Records) -> None:
    app = records.app("results", run=records.write("finished"))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("right")
        found = offered(app)
        answer = app.screen.snapshot.answers[1]  # type: ignore[attr-defined]
        assert (found["tuned answer"], found["base answer"]) == (answer.tuned, answer.base)
        assert found["package"].endswith("artifacts/support") and found["package"].startswith("/")
        assert found["ask it"] == 'humigence infer --project support --prompt "…"'


async def test_what_is_clicked_in_the_list_is_copied(records: Records) -> None:
    run = records.write("finished")
    app = records.app("home")
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: app.screen.chosen)  # type: ignore[attr-defined]
        await pilot.press("Y")
        await until(pilot, lambda: app.screen.query(Choices))
        await pilot.click(Choices, offset=(3, 0))
        await until(pilot, lambda: app.clipboard == str(run.path))


async def test_plan_and_summary_offer_their_commands(records: Records) -> None:
    app: Any = records.app("home")
    config = Config.model_validate({"data": {"source": "bundled"}})
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(SavedScreen(config, "configs/own.json", train=True))
        assert offered(app)["pipeline"] == "humigence pipeline --config configs/own.json --train"
        assert offered(app)["config"] == str(records.workspace.root / "configs/own.json")
        await app.push_screen(PlanScreen(config, "configs/own.json"))
        await until(pilot, lambda: app.screen.findings)
        assert offered(app)["command"] == "humigence pipeline --config configs/own.json --train"


async def test_the_differences_of_runs_are_copied_as_a_table(records: Records) -> None:
    runs = [records.write("finished"), records.write("stopped", run_id="2025-11-20_09-31-04")]
    app = records.app("compare", runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        assert "train.lora.r\t16\t64" in offered(app)["differences"]


async def test_a_screen_without_a_run_offers_the_folder(records: Records, tmp_path: Path) -> None:
    app = records.app("home")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No runs in this folder yet." in text_of(app))
        await pilot.press("Y", "enter")
        await until(pilot, lambda: app.clipboard == str(tmp_path))


@pytest.mark.parametrize("key", ["ctrl+c", "super+c"])
async def test_text_marked_with_the_mouse_is_copied(records: Records, key: str) -> None:
    app = records.app("results", run=records.write("finished"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        prompts = app.screen.query_one("#prompts")
        await pilot.mouse_down(prompts, offset=(13, 2))
        await pilot.hover(prompts, offset=(32, 2))
        await pilot.mouse_up(prompts, offset=(32, 2))
        await pilot.press(key)
        await until(pilot, lambda: len(app.clipboard) > 10)
        assert app.clipboard in " ".join(text_of(app).split())
