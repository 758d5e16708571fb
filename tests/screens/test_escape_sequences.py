"""Whatever a run, a file name or a setting holds, the screens show it; the terminal is never told to do it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from textual.app import App
from textual.filter import LineFilter
from textual.widgets import Input, Static

from humigence_tui.app import HumigenceApp
from pipeline import config_file
from pipeline.config import Config
from pipeline.runs import RunFolder
from pipeline.text import safe
from screens.saved import SavedScreen
from tests.hostile_text import EVIL, EVIL_NAME, EVIL_TEXT, SEQUENCES, control_characters, poison
from tests.screens.conftest import SIZES, Records, lines_of, shown, text_of, until

RUNS = ["finished", "failed", "crashed", "stopped", "nasty"]


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last look at each line, so that a screen that forgot to make something safe is seen."""

    def filters(app: HumigenceApp) -> Sequence[LineFilter]:
        return App.get_line_filters(app)

    monkeypatch.setattr(HumigenceApp, "get_line_filters", filters)


def leaking(app: HumigenceApp) -> list[str]:
    """Lines with a control character. What is typed into keeps its text as it is; only the last look stands before it."""
    typed = {field.region.y for field in app.screen.query(Input)}
    return [line for number, line in enumerate(lines_of(app)) if control_characters(line) and number not in typed]


def written(records: Records) -> list[Any]:
    runs = [records.write(name, project="evil", run_id=f"2025-11-{20 - number}_09-00-00") for number, name in enumerate(RUNS)]
    named = records.write("finished", project="named")
    folder = named.path.parent.rename(named.path.parent.with_name(EVIL_NAME))
    return [poison(run) for run in [*runs, RunFolder(folder / named.run_id)]]


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("size", SIZES)
async def test_every_screen_of_a_hostile_run_shows_its_text_and_obeys_none(records: Records, size: tuple[int, int]) -> None:
    runs = written(records)
    app = records.app("home")
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "evil" in text_of(app))
        assert not leaking(app)
        for screen, arguments in [
            *(("run", {"run": run}) for run in runs if size[0] == 160 or run in runs[:2]),
            ("results", {"run": runs[0]}),
            ("results", {"run": runs[-1]}),
            ("compare", {"runs": tuple(runs)}),
        ]:
            app.open(screen, **arguments)
            await shown(pilot)
            for key in ["", "tab", "tab", "tab", "right", "question_mark", "escape"]:
                await pilot.press(*filter(None, [key]))
                assert not leaking(app), (screen, key)
            app.open("home")


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("size", SIZES)
async def test_every_screen_of_a_hostile_config_shows_its_text_and_obeys_none(records: Records, size: tuple[int, int]) -> None:
    root = records.workspace.root
    (root / EVIL_NAME).write_text("{}\n")
    values = {"model": {"local_path": EVIL_TEXT}, "data": {"raw_path": EVIL_NAME}, "export": {"artifacts_dir": EVIL_TEXT}}
    config = Config.model_validate(values | {"eval": {"curated_prompts_path": EVIL_TEXT}})
    config_file.save(config, EVIL_NAME + ".json", root)
    app = records.app("home")
    async with app.run_test(size=size) as pilot:
        for screen, arguments in [
            ("wizard", {"config_path": EVIL_NAME + ".json"}),
            ("plan", {"config": config, "config_path": EVIL_NAME}),
            ("data", {"config": config}),
            ("chat", {}),
            ("doctor", {}),
        ]:
            app.open(screen, **arguments)
            await until(pilot, lambda: getattr(app.screen, "ready", False) and app.screen.is_current)
            for key in ["", "a", "tab", "tab", "down", "down", "down", "down", "escape"]:
                if app.screen.__class__.__name__ == "HomeScreen":
                    break
                await pilot.press(*filter(None, [key]))
                await pilot.pause(0.05)
                assert not leaking(app), (screen, key)
            app.open("home")
        app.push_screen(SavedScreen(config, EVIL_NAME, had_before=True))
        await until(pilot, lambda: "saved to" in text_of(app))
        assert not control_characters(text_of(app)) and "[bold red]" in text_of(app)


async def test_what_a_widget_forgets_is_dropped_on_the_way_to_the_terminal(records: Records) -> None:
    app = records.app("home")
    async with app.run_test(size=(160, 48), notifications=True) as pilot:
        page = await shown(pilot)
        careless = Static(f"<{EVIL}>", markup=False)
        careless.border_title = EVIL.replace("[", "(")
        await page.mount(careless)
        careless.styles.border = ("round", "red")
        linked = Static("[link='http://owned.example']linked[/link]")
        await page.mount(linked)
        app.notify(EVIL, title="told", markup=False, timeout=60)
        await until(pilot, lambda: "]0;OWNED" in text_of(app) and "linked" in text_of(app) and "told" in text_of(app))
        segments = [segment for strip in page._compositor.render_strips() for segment in strip]
        assert not control_characters("".join(segment.text for segment in segments))
        assert not [segment for segment in segments if segment.style is not None and segment.style.link]
        assert all(strip.cell_length == 160 for strip in page._compositor.render_strips())


@pytest.mark.parametrize("name", SEQUENCES)
async def test_markup_and_escapes_in_an_answer_are_shown_as_they_are_written(records: Records, name: str) -> None:
    run = records.write("finished", project="evil")
    lines = [json.loads(line) for line in run.events.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["kind"] == "answered":
            line["tuned"] = f"<{SEQUENCES[name]}>"
    run.events.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    app = records.app("results", run=run)
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        wanted = f"<{safe(SEQUENCES[name])}>"
        await until(pilot, lambda: "".join(wanted.split()) in "".join(text_of(app).split()))
