"""Where rows come from, in the wizard: a file, the demo, or a set that is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import Config
from screens.setup.form_values import fields
from tests.screens.setup.conftest import LARGER_IN_TEST_ALL, enter, saved, until, was_saved, wizard


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_a_generated_set_is_the_third_choice_and_says_what_it_will_be(workspace: Path, size: tuple[int, int]) -> None:
    async with wizard(workspace, size, config=Config()) as (screen, pilot):
        await enter(pilot, screen.data.choices, fields()["data.source"], "generated")
        await until(lambda: "240 rows of 12 topics" in str(screen.data.bundled.render()))
        assert "written to data/raw/oa.jsonl" in str(screen.data.bundled.render())
        await until(lambda: screen.outlook.model == "" and not screen.form.problems())
        await pilot.press("ctrl+s")
        await until(lambda: was_saved(workspace))
    assert (saved(workspace).data.source, saved(workspace).data.raw_path) == ("generated", "data/raw/oa.jsonl")
    assert not (workspace / "data/raw/oa.jsonl").exists(), "looking at what it costs writes nothing"


async def test_it_is_not_mistaken_for_rows_that_stand_at_the_usual_place(rows: Path) -> None:
    (rows / "data/raw/oa.jsonl").write_text("{}\n")
    async with wizard(rows, config=Config()) as (screen, pilot):
        await enter(pilot, screen.data.choices, fields()["data.source"], "generated")
        assert screen.draft.value("data.raw_path") == "data/raw/generated.jsonl"


async def test_how_many_and_of_what_follows_the_settings(workspace: Path) -> None:
    async with wizard(workspace, (160, 48), config=Config(data={"source": "generated"}), advanced=True) as (screen, _):  # type: ignore[arg-type]
        screen.form.enter({"data.generate.rows": "30", "data.generate.topics": ("home",)})
        await until(lambda: "30 rows of 1 topic ·" in str(screen.data.bundled.render()))
        screen.form.enter({"data.generate.rows": "3000"})
        await until(lambda: "home hold" in screen.outlook.problem, "more than there are is told beside the form")
