"""The queue's page: what is shown is what is in the queue, and each key does to it what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from humigence_tui.app import HumigenceApp
from pipeline.config.schema import Config
from pipeline.runs.queue import New, Queue
from tests.pilot import SIZES, Records, text_of, until

EXERCISED = {("QueueScreen", key) for key in ("enter", "S", "s", "p", "K", "J", "x", "c", "n")}


@pytest.fixture
def queue(records: Records, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Two runs of a sweep that have ended, the second badly, one that waits with a reason, and one by itself."""
    monkeypatch.delenv("TRAIN", raising=False)
    made, now = Queue(records.workspace), time.time()
    runs = [records.write(name, run_id=f"2025-11-22_09-31-0{number}") for number, name in enumerate(("finished", "gate_failed"))]
    sweep = [
        New(Config(project=f"mine-lr{value}").to_json(), "mine.json", (("train.lr", value),))
        for value in ("1e-4", "2e-4", "4e-4")
    ]
    made.add(sweep)
    made.add([New(Config(project="alone").to_json(), "alone.json")])
    ends: list[tuple[Any, int, str]] = [("finished", 0, ""), ("failed", 4, "the disk is full: /data\n  make room")]
    for number, (run, (outcome, code, message)) in enumerate(zip(runs, ends, strict=True), start=1):
        made.update(
            number, state="ended", outcome=outcome, exit_code=code, message=message, run=f"{run.project}/{run.run_id}",
            began=now - 600, ended=now,
        )  # fmt: skip
    made.update(3, waits_for="a GPU: a run is on each")
    return made


@pytest.fixture
def running(queue: Queue) -> Iterator[Queue]:
    """Its process is there."""
    with queue.take():
        yield queue


async def page(pilot: Any, app: HumigenceApp) -> Any:
    await until(pilot, lambda: type(app.screen).__name__ == "QueueScreen" and app.screen.ready)
    screen: Any = app.screen
    await until(pilot, lambda: screen.queued and screen._rows)
    return screen


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_everything_that_is_queued_is_shown_with_why_it_stands_there(
    records: Records, running: Queue, size: tuple[int, int]
) -> None:
    app = records.app("queue")
    async with app.run_test(size=size) as pilot:
        await page(pilot, app)
        await until(pilot, lambda: "lr=4e-4" in text_of(app) and "alone" in text_of(app) and "2 waiting" in text_of(app))
        await pilot.press("down")
        await until(pilot, lambda: "the disk is full: /data" in text_of(app))
        await pilot.press("down")
        await until(pilot, lambda: "waits for a GPU: a run is on each" in text_of(app) and "config mine.json" in text_of(app))


async def pressed(records: Records, keys: list[str], seen: Callable[[Any], object]) -> None:
    app = records.app("queue")
    async with app.run_test(size=(80, 24)) as pilot:
        await page(pilot, app)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await until(pilot, lambda: seen(app))


def on(name: str) -> Callable[[Any], bool]:
    return lambda app: type(app.screen).__name__ == name


def numbers(queue: Queue) -> list[int]:
    return [each.number for each in queue.read()]


@pytest.mark.parametrize(
    ("keys", "screen"), [(["enter"], "RunScreen"), (["c"], "CompareScreen"), (["n"], "WizardScreen"), (["escape"], "HomeScreen")]
)
async def test_it_leads_to_the_runs(records: Records, queue: Queue, keys: list[str], screen: str) -> None:
    if screen == "HomeScreen":
        app = records.app()
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: on("HomeScreen")(app) and app.screen.ready)  # type: ignore[attr-defined]
            await pilot.press("u")
            await page(pilot, app)
            await pilot.press(*keys)
            await until(pilot, lambda: on(screen)(app))
    else:
        await pressed(records, keys, on(screen))


@pytest.mark.parametrize(("keys", "order"), [(["end", "K"], [1, 2, 4, 3]), (["down", "down", "J"], [1, 2, 4, 3])])
async def test_the_order_is_changed_by_a_key(records: Records, queue: Queue, keys: list[str], order: list[int]) -> None:
    await pressed(records, keys, lambda _: numbers(queue) == order)


@pytest.mark.parametrize(
    ("keys", "left"), [(["end", "x", "right", "enter"], [1, 2, 3]), (["x"], [2, 3, 4]), (["end", "x", "enter"], [1, 2, 3, 4])]
)
async def test_what_waits_is_taken_out_after_a_question_and_what_has_ended_at_once(
    records: Records, queue: Queue, keys: list[str], left: list[int]
) -> None:
    await pressed(records, keys, lambda app: numbers(queue) == left and on("QueueScreen")(app))


@pytest.mark.parametrize(
    ("keys", "train", "begun"),
    [
        (["S", "enter"], None, 0), (["s", "right", "enter"], None, 1), (["S"], "1", 1), (["S"], "0", 0),
    ],
)  # fmt: skip
async def test_nothing_trains_without_a_clear_answer(
    records: Records, queue: Queue, monkeypatch: pytest.MonkeyPatch, keys: list[str], train: str | None, begun: int
) -> None:
    started: list[int] = []
    monkeypatch.setattr(HumigenceApp, "_launch_queue", lambda _: started.append(1))
    if train is not None:
        monkeypatch.setenv("TRAIN", train)
    await pressed(records, keys, lambda app: len(started) == begun and on("QueueScreen")(app))
    assert len(started) == begun


async def test_the_queue_is_stopped_by_a_key_and_started_by_none_while_it_is_on(records: Records, running: Queue) -> None:
    await pressed(records, ["S", "p"], lambda app: running.stop_requested() and on("QueueScreen")(app))


async def test_a_damaged_queue_is_told_and_the_app_stays(records: Records, queue: Queue) -> None:
    queue.file.write_text("{")
    app = records.app("queue")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "this is no queue" in " ".join(text_of(app).split()))
        assert "Nothing is queued" not in text_of(app)
