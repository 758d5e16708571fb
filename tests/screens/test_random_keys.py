"""Keys pressed at random, windows resized at random, while a run floods: the app stays up and the terminal shows what it drew."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from humigence_tui.app import HumigenceApp
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder, Workspace
from screens.frame import registry
from tests.benchmarks import flood
from tests.pilot import LARGER_IN_TEST_ALL, Records, shown, text_of, until
from tests.recordings.make import write
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S, in_time

# What is bound somewhere, what is typed into fields, and what nobody would press.
NAMED = [
    "enter", "escape", "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "space", "slash",
    "question_mark", "plus", "minus", "comma", "full_stop", "ctrl+s", "ctrl+p", "ctrl+t", "ctrl+l", "f1", "f2", "f5", "f9",
    "backspace", "delete",
]  # fmt: skip
KEYS = [*NAMED, *NAMED, *"abcdefghijklmnoprstuvwxyzGNR0179é日"]
WINDOWS = [(80, 24), (160, 48), (40, 12), (200, 60), (20, 6), (110, 31), (1, 1), (81, 33)]


@pytest.fixture
def flooded(records: Records, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A live run that writes 500 steps a second, and others; nothing pressed here starts a process."""
    for number, name in enumerate(("finished", "crashed", "diverged", "nasty")):
        records.write(name, run_id=f"2025-11-{20 - number:02d}_09-31-04")
    run = records.write("running")
    monkeypatch.setattr(HumigenceApp, "_launch", lambda *_: None)
    monkeypatch.setattr(HumigenceApp, "_launch_queue", lambda *_: None)
    monkeypatch.setattr(registry, "load", _loaded(registry.load))
    ended = threading.Event()

    def write_on() -> None:
        writer, step = EventWriter(run), 413
        while not ended.wait(0.02):
            for step in range(step, step + 10):  # noqa: B020
                flood.write_step(writer, step)
            step += 1
        writer.close()

    thread = threading.Thread(target=write_on)
    thread.start()
    yield run
    ended.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def _loaded(load):  # type: ignore[no-untyped-def]
    """Screens that have a process of their own are home instead."""
    return lambda name: load("doctor" if name in ("data", "chat") else name)


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL, ids=str)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.matrix)])
async def test_no_key_brings_it_down(records: Records, flooded: RunFolder, size: tuple[int, int], seed: int) -> None:
    draw = random.Random(f"{seed} {size}")
    app = records.app("run", run=flooded)
    pressed: list[object] = []
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        for _ in range(120):
            what = draw.choice(WINDOWS) if draw.random() < 0.06 else draw.choice(KEYS)
            pressed.append(what)
            if isinstance(what, tuple):
                await pilot.resize_terminal(*what)
            else:
                await pilot.press(what)
            assert app.is_running, pressed
            assert app._exception is None, pressed
        await pilot.resize_terminal(*size)
        for _ in range(30):  # whatever is open: back to the lowest screen, at each question the way that goes on
            if type(app.screen).__name__ == "HomeScreen":
                break
            await pilot.press(*(["right", "enter"] if "leave" in text_of(app) and app.screen.is_modal else ["escape"]))
        await until(pilot, lambda: type(app.screen).__name__ == "HomeScreen")
        await until(pilot, lambda: "5 runs" in text_of(app))
    assert app._exception is None, pressed


# Nothing that leaves, opens data or chat, or starts a process.
ARROWS = ["\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~"]
SENT = ["\r", "\x1b", "\t", " ", "\x14", *ARROWS, *"cfghjklsvxy?/+-,.0GN"]


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL, ids=str)
def test_after_any_keys_the_terminal_shows_what_a_new_drawing_shows(tmp_path: Path, size: tuple[int, int]) -> None:
    """And nothing has been printed past the screen."""
    workspace = Workspace(tmp_path)
    for number, name in enumerate(("finished", "nasty", "gate_failed")):
        write(workspace, name, run_id=f"2025-11-{20 - number:02d}_09-31-04")
    run = write(workspace, "crashed")
    worker = flood.start(run, 500, 500, 6)
    draw = random.Random(str(size))
    with Terminal(tmp_path, columns=size[0], lines=size[1], CUDA_VISIBLE_DEVICES="") as terminal:
        terminal.says("training")
        for _ in in_time(iter(worker.poll, 0)):
            terminal.press(draw.choice(SENT))
            # An escape and a key that come together are another key.
            terminal.rests(0.03)
        terminal.rests(1.5)
        assert terminal.process.poll() is None
        before = still(terminal)
        terminal.press("\x0c")
        terminal.rests(1.0)
        assert still(terminal) == before
    assert b"Traceback" not in terminal.received
    assert (tmp_path / ".cache" / "humigence" / "app.log").read_bytes() == b""


def still(terminal: Terminal) -> list[str]:
    """The screen without what changes by itself: the machine."""
    return [line for line in terminal.lines if "CPU" not in line and "RAM" not in line]
