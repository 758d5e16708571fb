"""Recorded runs on screens: which run, which size, and waiting for a state instead of for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from humigence_tui.app import HumigenceApp
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks
from screens.frame import themes
from tests.recordings.make import RECORDINGS, write
from tests.waiting import PATIENCE_S

SIZES = [(80, 24), (160, 48)]
# The larger one, of what takes seconds, is left to `make test-all`.
LARGER_IN_TEST_ALL = [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.matrix)]


class Records:
    """Recordings written into one workspace. Live ones have their lock held by this process while the test lasts."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self._locks: list[locks.FileLock] = []

    def write(self, name: str, **options: Any) -> RunFolder:
        live = RECORDINGS[name].live
        run = write(self.workspace, name, until=time.time() - 1 if live else None, **options)
        if live:
            self.hold(run)
        return run

    def hold(self, run: RunFolder) -> None:
        lock = locks.try_lock(run.lock)
        assert lock is not None
        self._locks.append(lock)

    def let_go(self) -> None:
        """The process of every live run is gone."""
        while self._locks:
            self._locks.pop().release()

    def app(self, screen: str = "home", **arguments: Any) -> HumigenceApp:
        app = HumigenceApp(self.workspace, screen, arguments)
        app.theme = themes.DARK
        return app


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path)
    yield made
    made.let_go()


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Let the app work until `condition` holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"still not so:\n{text_of(pilot.app)}"
        await pilot.pause(0.01)


async def shown(pilot: Pilot[None]) -> Any:
    """The screen on top, once it has its widgets and what it shows of runs."""
    app: Any = pilot.app

    def is_there() -> bool:
        screen = app.screen
        if not getattr(screen, "ready", False):
            return False
        if hasattr(screen, "snapshot"):
            return screen.snapshot is not None and screen.snapshot.whole
        if hasattr(screen, "_snapshots"):
            return len(screen._snapshots) == len(screen.runs)
        return getattr(screen, "runs", ()) is not None

    await until(pilot, is_there)
    await pilot.pause()
    return app.screen


def lines_of(app: Any) -> list[str]:
    """What the terminal shows, a line each."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def text_of(app: Any) -> str:
    return "\n".join(lines_of(app))
