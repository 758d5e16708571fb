"""Talking to what came out of a run: streamed, beside the base, stopped, and what happens when its process dies."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from pipeline.runs import store
from pipeline.runs.folders import Workspace
from screens.chat.chat import ChatScreen
from screens.chat.conversation import Answer, Side, Turn, side_content
from tests.pilot import LARGER_IN_TEST_ALL, text_of, until
from tests.screens.talk import Stage
from tests.waiting import is_gone

pytestmark = pytest.mark.usefixtures("jobs_ahead")

both_sizes = pytest.mark.parametrize("size", LARGER_IN_TEST_ALL, ids=str)
PROMPT = "What is the capital of France?"


def stage(root: Path, **arguments: Any) -> Stage:
    return Stage(root, "chat", **(arguments or {"run": store.find_run(Workspace(root))}))


async def loaded(pilot: Pilot[None], longest: int = 64) -> ChatScreen:
    app: Any = pilot.app
    await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.ready and app.screen.job_pid)
    screen: ChatScreen = app.screen
    screen.longest = longest
    await until(pilot, lambda: screen.state == "ready")
    return screen


async def ask(pilot: Pilot[None], prompt: str = PROMPT) -> None:
    field = pilot.app.screen.query_one(Input)
    field.value = prompt
    await pilot.press("enter")


def expected(root: Path, folder: Path, prompts: list[str], *, base: bool, longest: int) -> list[str]:
    """What the model answers to `prompts`, one after the other, asked without any screen."""
    from pipeline.export.load import load_packaged
    from pipeline.modeling.generate import generate_batch
    from pipeline.system.gpu import cpu_device

    before = Path.cwd()
    os.chdir(root)
    try:
        model, tokenizer = load_packaged(folder, cpu_device())
    finally:
        os.chdir(before)
    messages: list[Any] = []
    answers = []
    for prompt in prompts:
        messages.append({"role": "user", "content": prompt})
        with model.disable_adapter() if base else nullcontext():
            answers += generate_batch(model, tokenizer, [tokenizer.encode_prompt(messages)], longest)
        messages.append({"role": "assistant", "content": answers[-1]})
    return answers


@both_sizes
async def test_both_sides_answer_as_the_models_do_each_with_its_own_history(packaged: Path, size: tuple[int, int]) -> None:
    prompts = [PROMPT, "And of the Moon?"]
    tuned, base = (
        expected(packaged, packaged / "artifacts/demo", prompts, base=is_base, longest=64) for is_base in (False, True)
    )
    app = stage(packaged)
    async with app.run_test(size=size) as pilot:
        screen = await loaded(pilot)
        await ask(pilot, prompts[0])
        await until(pilot, lambda: screen.state == "ready" and screen.conversation.turns[0].answers["tuned"].state == "done")
        assert "base" not in screen.conversation.turns[0].answers
        # The base answers what it was not asked yet, then both go on.
        await pilot.press("f2")
        await ask(pilot, prompts[1])
        await until(pilot, lambda: screen.conversation.next_open(screen.sides) is None and screen.state == "ready")
        turns = screen.conversation.turns
        assert [turn.answers["tuned"].text for turn in turns] == tuned
        assert [turn.answers["base"].text for turn in turns] == base
        assert tuned != base
        assert screen.query_one("#base").region.right <= screen.query_one("#tuned").region.x
        assert text_of(app).count(f"▸ {prompts[1]}") == 2


@pytest.mark.usefixtures("jobs_alone")  # it takes its time
async def test_loading_is_seen_and_a_prompt_typed_meanwhile_is_answered(packaged: Path) -> None:
    app = stage(packaged)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loading" in text_of(app) and "with the adapter of" in " ".join(text_of(app).split()))
        screen: Any = app.screen
        assert screen.state == "loading"
        screen.longest = 64
        await ask(pilot)
        assert not screen.conversation.turns[0].answers
        await until(pilot, lambda: screen.state == "ready" and screen.conversation.next_open(screen.sides) is None)
        assert screen.conversation.turns[0].answers["tuned"].state == "done"


async def test_an_answer_comes_in_pieces_and_escape_stops_it(packaged: Path) -> None:
    app = stage(packaged)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await loaded(pilot, longest=1024)
        await ask(pilot)
        await until(pilot, lambda: screen.state == "answering" and screen.conversation.turns[0].answers["tuned"].text)
        await pilot.press("escape")
        await until(pilot, lambda: screen.state == "ready")
        answer = screen.conversation.turns[0].answers["tuned"]
        assert answer.state == "stopped" and answer.note == "stopped" and answer.text
        assert app.screen is screen
        screen.longest = 64
        await ask(pilot, "And now?")
        await until(pilot, lambda: screen.state == "ready" and screen.conversation.turns[1].answers["tuned"].state == "done")


async def test_a_crash_is_told_the_conversation_kept_and_the_model_loaded_again(packaged: Path) -> None:
    app = stage(packaged)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await loaded(pilot, longest=1024)
        await ask(pilot)
        await until(pilot, lambda: screen.conversation.turns[0].answers and screen.conversation.turns[0].answers["tuned"].text)
        os.kill(screen.job_pid, 9)
        await until(pilot, lambda: "process was killed" in " ".join(text_of(app).split()) and "loads it again" in text_of(app))
        assert "✘ no model" in text_of(app)
        assert f"▸ {PROMPT}" in text_of(app)
        await pilot.press("r")
        await until(pilot, lambda: screen.state == "ready")
        screen.longest = 64
        await ask(pilot, "And now?")
        await until(pilot, lambda: screen.state == "ready" and screen.conversation.turns[1].answers["tuned"].state == "done")
        assert screen.conversation.turns[0].answers["tuned"].state == "failed"


async def test_without_a_package_the_best_checkpoint_is_loaded(packaged: Path, workspace: Path) -> None:
    shutil.copytree(packaged, workspace, dirs_exist_ok=True)
    shutil.rmtree(workspace / "artifacts")
    app = stage(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await loaded(pilot)
        assert "step-000020" in screen._facts["what"]
        await ask(pilot)
        await until(pilot, lambda: screen.conversation.turns[0].answers and screen.state == "ready")
        (answer,) = expected(packaged, packaged / "artifacts/demo", [PROMPT], base=False, longest=64)
        assert screen.conversation.turns[0].answers["tuned"].text == answer


async def test_with_nothing_to_talk_to_it_says_what_makes_it(workspace: Path) -> None:
    app = Stage(workspace, "chat")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "no packaged model" in text_of(app) and "humigence pipeline --train" in text_of(app))


@pytest.mark.usefixtures("jobs_alone")
async def test_a_conversation_is_not_left_unasked_and_leaving_ends_the_process(packaged: Path) -> None:
    app = stage(packaged)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await loaded(pilot)
        await ask(pilot)
        await until(pilot, lambda: screen.conversation.turns[0].answers and screen.state == "ready")
        await pilot.press("escape")
        await until(pilot, lambda: "Leave this conversation?" in text_of(app))
        pid = screen.job_pid
        await pilot.press("right", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ChatScreen) and is_gone(pid))


async def test_a_conversation_longer_than_the_model_reads_is_refused_in_words(packaged: Path) -> None:
    app = stage(packaged)
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await loaded(pilot, longest=2048)
        await ask(pilot)
        await until(pilot, lambda: "more than the model's 2048: clear it, or allow shorter answers" in text_of(app))
        assert screen.state == "ready"


def test_no_screen_loads_a_model_or_a_tokenizer() -> None:
    from tests.processes import HEAVY, python

    done = python("import sys, screens.data.data, screens.chat.chat\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()).isdisjoint(HEAVY)


@pytest.mark.parametrize("width", [20, 40, 78])
def test_each_turn_begins_in_the_same_row_on_both_sides(width: int) -> None:
    short, long = Answer("No.", "done", "1 token in 0.1 s"), Answer("A word or two of it. " * 9, "done")
    turns = [Turn("first", {"tuned": short, "base": long}), Turn("second", {"tuned": long}), Turn("third", {"base": short})]
    sides: list[tuple[Side, Side]] = [("tuned", "base"), ("base", "tuned")]
    rows = []
    for side, other in sides:
        lines = [line.plain for line in side_content(turns, side, other, width).wrap(width)]
        rows.append([number for number, line in enumerate(lines) if line.startswith("▸")])
    assert len(rows[0]) == 3 and rows[0] == rows[1]
