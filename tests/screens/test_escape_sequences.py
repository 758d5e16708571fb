"""Whatever a run, a file name or a setting holds, the screens show it; the terminal is never told to do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.filter import LineFilter
from textual.widgets import Input, Static

from humigence_tui.app import HumigenceApp
from pipeline.common.errors import BadInput
from pipeline.common.text import safe
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.jobs.client import Ended, Gone, JobEvent, JobUpdate
from pipeline.runs.folders import RunFolder
from screens.frame import messages
from screens.setup.saved import SavedScreen
from tests.conftest import chat_row
from tests.hostile_text import EVIL, EVIL_NAME, EVIL_TEXT, SEQUENCES, control_characters, poison
from tests.pilot import LARGER_IN_TEST_ALL, SIZES, Records, lines_of, shown, text_of, until

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


@pytest.mark.usefixtures("unguarded", "jobs_ahead")
@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
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


@pytest.mark.usefixtures("unguarded", "jobs_ahead")
@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
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


def hostile_rows(path: Path) -> int:
    """Rows that are trained on, whose text is hostile, and rows that are rejected with hostile words; how many."""
    rows: list[dict[str, Any]] = [
        chat_row(f"{EVIL_TEXT} OWNED?", f"OWNED {EVIL_TEXT}"),
        chat_row("OWNED?", *("".join(SEQUENCES[name] for name in SEQUENCES if len(SEQUENCES[name]) > 1).split("\x1b"))),
        {"messages": [{"role": EVIL + "x", "content": EVIL}]},
        {"messages": [{"role": "user", "content": EVIL_TEXT, EVIL_TEXT: 1}]},
        {EVIL_TEXT: 1},
    ]
    lines = [json.dumps(row).encode() for row in rows] + [b"\x1b]0;OWNED\x07 \x9b31m", b'{"\xc2\x9b\x1b[2J": "\xff"}']
    path.write_bytes(b"\n".join(lines) + b"\n")
    return len(lines)


@pytest.mark.usefixtures("unguarded", "jobs_ahead")
async def test_hostile_rows_are_shown_and_obeyed_by_no_part_of_the_data_screen(
    records: Records, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = hostile_rows(records.workspace.root / EVIL_NAME)
    config = Config.model_validate({"model": {"local_path": str(tiny_model)}, "data": {"raw_path": EVIL_NAME}})
    app, copied, walked = records.app("data", config=config), list[str](), set[int]()
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "row", None) and app.screen.counted and app.screen.counted["finished"])
        screen: Any = app.screen
        while screen.row["row"] not in walked:
            walked.add(screen.row["row"])
            for size in SIZES:
                await pilot.resize_terminal(*size)
                await until(pilot, lambda high=size[1]: len(lines_of(app)) == high)
                for key in ("v", "v", "y") if size[0] == 80 else ("y",):
                    await pilot.press(key)
                    assert not leaking(app), (screen.row["row"], size, key)
            await pilot.press("right")
            await until(pilot, lambda: not screen._asked)
        for keys in (["slash", *"OWNED", "enter"], ["slash", *"nowhere", "enter"], ["f"], ["f"], ["g", "1", "enter"]):
            await pilot.press(*keys)
            await until(pilot, lambda: not screen._asked)
            assert not leaking(app), keys
    assert len(walked) == total and len(copied) == 2 * total
    assert "OWNED" in "".join(copied) and not control_characters("".join(copied))


class HostileModel:
    """In the place of a job: a model, and a process, that say nothing but hostile text."""

    pid = 1

    def __init__(self, _kind: str, tell: Callable[[JobEvent], object], _folder: Path) -> None:
        self._tell, self._requests = tell, 0

    def start(self) -> None: ...

    def close(self) -> None: ...

    def cancel(self, request: int) -> None: ...

    def send(self, what: str, **_: Any) -> int:
        self._requests += 1
        names = dict.fromkeys(("what", "base", "device", "precision", "warning"), EVIL)
        if what == "load":
            self._tell(JobUpdate(self._requests, "loading", names))
            self._tell(Ended(self._requests, "done"))
        else:
            for character in EVIL:  # a sequence may come in pieces
                self._tell(JobUpdate(self._requests, "piece", {"text": character}))
            if self._requests == 4:
                self._tell(Gone(EVIL, (EVIL, EVIL)))
            elif self._requests == 3:
                self._tell(Ended(self._requests, "failed", EVIL, EVIL))
            else:
                self._tell(Ended(self._requests, "done", data={"tokens": 1, "seconds": 1.0, "cut": True}))
        return self._requests


@pytest.mark.usefixtures("unguarded", "jobs_ahead")
@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_what_a_model_says_is_shown_and_obeyed_by_no_part_of_the_chat(
    records: Records, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screens.chat.chat.Job", HostileModel)
    run = records.write("finished", project="evil")
    folder = run.path.parent.rename(run.path.parent.with_name(EVIL_NAME))
    app, copied = records.app("chat", run=RunFolder(folder / run.run_id)), list[str]()
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: getattr(app.screen, "state", "") == "ready")
        prompt = app.screen.query_one(Input)
        while app.screen.state != "lost":
            prompt.focus()
            prompt.value = f"OWNED {EVIL_TEXT}"
            await pilot.press("enter")
            await until(pilot, lambda: not prompt.value and app.screen.state != "answering")
            for key in ["", "f5", "f2", "tab", "f5", "up", "f2", "f1", "escape"]:
                await pilot.press(*filter(None, [key]))
                assert not leaking(app), key
        assert app.screen.state == "lost" and "OWNED" in text_of(app)
    assert copied and "OWNED" in copied[0] and not control_characters("".join(copied))


@pytest.mark.usefixtures("unguarded", "jobs_ahead")
async def test_a_start_that_is_refused_is_told_and_not_obeyed(records: Records) -> None:
    app = records.app("home")
    async with app.run_test(size=(160, 48), notifications=True) as pilot:
        await shown(pilot)
        app.post_message(messages.RunRefused(BadInput(f"refused {EVIL}", f"mend {EVIL}")))
        await until(pilot, lambda: "refused" in text_of(app))
        assert not leaking(app)


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
