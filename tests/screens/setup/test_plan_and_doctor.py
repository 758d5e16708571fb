"""What follows the wizard: the summary, the plan with its question, and the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.doctor.check import Check
from pipeline.planning.plan import read_plan
from pipeline.runs.events import STEP_NAMES
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import Queue
from screens.doctor.doctor import DoctorScreen, report, verdict
from screens.frame.question import Question
from screens.setup.actions import next_command
from screens.setup.cost_preview import Outlook
from screens.setup.plan import PlanScreen
from screens.setup.plan_facts import changed_settings, steps
from screens.setup.saved import SavedScreen
from screens.widgets.choices import Choices
from tests.screens.setup.conftest import LARGER_IN_TEST_ALL, SIZES, Stage, stage, until

DEMO = config_file.parse({"data": {"source": "bundled"}}, "test")


async def opened(app: Stage) -> PlanScreen:
    screen = app.screen
    assert isinstance(screen, PlanScreen)
    await until(lambda: screen.findings is not None, "the plan was looked up")
    return screen


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_all_eight_steps_stand_on_the_screen(workspace: Path, size: tuple[int, int]) -> None:
    async with stage(workspace, "plan", size, config=DEMO) as (app, pilot):
        screen = await opened(app)
        await pilot.pause()
        drawn = "\n".join(strip.text for strip in screen._compositor.render_strips())
        assert all(f"{number} {name}" in drawn for number, name in enumerate(STEP_NAMES, start=1))
        assert "qlora_nf4" in drawn and "micro-batch" in drawn and "when asked for" in drawn


async def test_the_plan_is_saved_as_the_project_s_newest(workspace: Path) -> None:
    async with stage(workspace, "plan", SIZES[0], config=DEMO) as (app, _):
        screen = await opened(app)
        assert screen.findings is not None
        assert read_plan(workspace / "runs/humigence/training_plan.json") == screen.findings.outlook.plan


@pytest.mark.parametrize(
    ("keys", "train"), [(["enter"], None), (["escape"], None), (["right", "enter"], False), (["right", "right", "enter"], True)]
)
async def test_training_starts_only_on_a_clear_answer(workspace: Path, keys: list[str], train: bool | None) -> None:
    async with stage(workspace, "plan", SIZES[0], config=DEMO) as (app, pilot):
        screen = await opened(app)
        await pilot.press("s")
        await until(lambda: isinstance(app.screen, Question), "the question")
        await pilot.press(*keys)
        await until(lambda: app.screen is screen, "answered")
        await until(lambda: train is None or app.started, "started")
        assert [message.request.train for message in app.started] == ([] if train is None else [train])


@pytest.mark.parametrize("asked_by", ["--train", "TRAIN"])
async def test_asked_for_training_nothing_more_is_asked(workspace: Path, asked_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if asked_by == "TRAIN":
        monkeypatch.setenv("TRAIN", "1")
    async with stage(workspace, "plan", SIZES[0], config=DEMO, train=asked_by == "--train") as (app, pilot):
        await opened(app)
        await pilot.press("enter")
        await until(lambda: app.started, "started")
        assert app.started[0].request.train and not isinstance(app.screen, Question)


async def test_a_plan_is_put_into_the_queue_and_nothing_starts(workspace: Path) -> None:
    queue = Queue(Workspace(workspace))
    async with stage(workspace, "plan", SIZES[0], config=DEMO, config_path="demo.json") as (app, pilot):
        await opened(app)
        await pilot.press("u")
        await until(queue.read, "queued")
        (queued,) = queue.read()
        assert queued.load_config() == DEMO and queued.source == "demo.json" and queued.state == "waiting"
        assert not app.started


async def test_validate_runs_the_first_step_only(workspace: Path) -> None:
    async with stage(workspace, "plan", SIZES[0], config=DEMO) as (app, pilot):
        await opened(app)
        await pilot.press("v")
        await until(lambda: app.started, "started")
        assert (app.started[0].request.until, app.started[0].request.train) == ("validate", False)


async def test_no_data_is_said_where_the_plan_would_be(workspace: Path) -> None:
    async with stage(workspace, "plan", SIZES[0], config=Config()) as (app, pilot):
        screen = await opened(app)
        await pilot.pause()
        drawn = "\n".join(strip.text for strip in screen._compositor.render_strips())
        assert "no plan yet" in drawn and "data.raw_path" in drawn


def test_steps_that_are_done_already_say_so() -> None:
    told = {fact.name: fact for fact in steps(DEMO, Outlook(), model_here=True, data_ready=True, train=True)}
    assert told["model"].value.startswith("uses ") and told["preprocess"].value.startswith("nothing to do")
    assert not any(fact.reason for fact in told.values())


def test_the_summary_lists_what_is_not_at_its_default() -> None:
    config = config_file.with_value(DEMO, "train.early_stopping.enabled", "false")
    assert [tuple(fact) for fact in changed_settings(config)] == [("train.early_stopping.enabled", "no", "default yes")]


@pytest.mark.parametrize(("key", "action"), [("p", "plan"), ("v", "validate"), ("S", "pipeline")])
async def test_what_to_do_after_saving(workspace: Path, key: str, action: str) -> None:
    async with stage(workspace, "doctor", SIZES[0]) as (app, pilot):
        app.push_screen(SavedScreen(DEMO, config_file.DEFAULT_CONFIG))
        await until(lambda: isinstance(app.screen, SavedScreen) and isinstance(app.screen.focused, Choices))
        await pilot.press(key)
        wanted = {"plan": PlanScreen, "pipeline": Question}
        await until(lambda: app.started if action == "validate" else isinstance(app.screen, wanted[action]))


async def test_the_choice_after_saving_can_be_made_again(workspace: Path) -> None:
    async with stage(workspace, "doctor", SIZES[0]) as (app, pilot):
        app.push_screen(SavedScreen(DEMO, config_file.DEFAULT_CONFIG))
        await until(lambda: isinstance(app.screen, SavedScreen) and isinstance(app.screen.focused, Choices))
        for count in (1, 2):
            await pilot.press("home", "down", "enter")
            await until(lambda: len(app.started) == count)  # noqa: B023  awaited here


def test_the_next_command_does_the_same() -> None:
    assert next_command("pipeline", "configs/x.json", train=True) == "humigence pipeline --config configs/x.json --train"
    assert next_command("plan", "configs/x.json", train=True) == "humigence plan --config configs/x.json"
    assert next_command("validate", config_file.DEFAULT_CONFIG) == "humigence validate"


# ----------------------------------------------------------------------------------------------------------- doctor

CHECKS = (
    Check("Python", "ok", "3.11"),
    Check("GPU", "warning", "none", "training runs on the CPU"),
    Check("torch", "problem", "evil\x1b[2J", "pip install torch"),
)


def test_what_needs_doing_comes_first_and_nothing_from_outside_moves_the_cursor() -> None:
    lines = report(CHECKS, 60).plain.splitlines()
    assert [line.split()[1] for line in lines if line.strip() and line.split()[0] in "✘▲✔"] == ["torch", "GPU", "Python"]
    assert "\x1b" not in "\n".join(lines)
    assert "→ pip install torch" in lines[1]


def test_no_line_is_wider_than_the_screen() -> None:
    long = (Check("disk", "warning", "word " * 40, "advice " * 40),)
    assert max(map(len, report(long, 60).plain.splitlines())) <= 60


@pytest.mark.parametrize(("checks", "words"), [(CHECKS, "1 problem"), (CHECKS[:2], "1 warning"), (CHECKS[:1], "all is well")])
def test_the_first_line_says_what_it_comes_to(checks: tuple[Check, ...], words: str) -> None:
    assert words in verdict(checks).plain


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_the_doctor_looks_and_looks_again(workspace: Path, size: tuple[int, int]) -> None:
    async with stage(workspace, "doctor", size) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, DoctorScreen)
        await until(lambda: screen.checks, "examined")
        first = screen.checks
        await pilot.press("r")
        await until(lambda: screen.checks is not first, "examined again")
