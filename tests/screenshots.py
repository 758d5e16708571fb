"""Write an SVG of each screen in each recorded state: `python -m tests.screenshots FOLDER [80x24 160x48 …]`.

The machine shown is a made-up one with a GPU, so that the pictures are the same everywhere.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from humigence_tui.app import HumigenceApp
from humigence_tui.background import threads
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks
from pipeline.system.gpu import GIB, GpuProcess, GpuReading, Survey
from pipeline.system.host import HostReading
from screens.frame import themes
from screens.frame.machine_snapshot import Machine, MachineHistory
from screens.frame.messages import MachineNews
from tests.recordings.make import RECORDINGS, write

SIZES = ("80x24", "160x48")
# name of the picture: (screen, recordings, keys pressed)
SHOTS: dict[str, tuple[str, list[str], list[str]]] = {
    "home": ("home", ["running", "finished", "gate_failed", "stopped", "early_stopped", "crashed", "diverged", "prepared"], []),
    "home-empty": ("home", [], []),
    **{f"run-{name}": ("run", [name], []) for name in RECORDINGS if name not in ("long", "nasty")},
    "run-gradient": ("run", ["running"], ["g", "r"]),
    "run-log": ("run", ["running"], ["tab"]),
    "run-stop": ("run", ["running"], ["x"]),
    "results": ("results", ["finished"], []),
    "results-failed": ("results", ["gate_failed"], ["right", "right"]),
    "compare": ("compare", ["finished", "gate_failed", "stopped"], []),
    "keys": ("run", ["running"], ["question_mark"]),
}


def machine() -> Machine:
    """Two minutes of a GPU that trains."""
    history = MachineHistory()
    made = Machine()
    for second in range(120):
        warm = min(1.0, second / 25)
        reading = GpuReading(
            0, "GPU-1", "NVIDIA GeForce RTX 4080", (8, 9), int(97 * warm - 4 * abs(math.sin(second / 5))) if warm > 0.2 else 3,
            int((3 + 9.3 * warm) * GIB), 16 * GIB, int((13 - 9.3 * warm) * GIB),
            (GpuProcess(41822, "python", int(11.9 * GIB)), GpuProcess(1204, "Xorg", int(0.3 * GIB))),
            60 + 211 * warm, 320.0, int(40 + 31 * warm), 2745, 46,
        )  # fmt: skip
        host = HostReading("CPU", 16, 30 + 8 * math.sin(second / 9), 62 * GIB, 53 * GIB)
        made = history.add(Survey((reading,)), host, time.time())
    return made


async def shoot(folder: Path, name: str, size: str, theme: str = themes.DARK) -> None:
    screen, recordings, keys = SHOTS[name]
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(Path(root))
        held = [_record(workspace, each, number) for number, each in enumerate(recordings)]
        runs = [run for run, _ in held]
        arguments: dict[str, Any] = (
            {"run": {"run": runs[0]}, "results": {"run": runs[0]}, "compare": {"runs": runs}}.get(screen, {}) if runs else {}
        )
        app = HumigenceApp(workspace, screen, arguments)
        app.theme = theme
        columns, lines = map(int, size.split("x"))
        async with app.run_test(size=(columns, lines)) as pilot:
            await _wait(pilot, lambda: _shows(app))
            app.post_message(MachineNews(machine()))
            await pilot.press(*keys)
            await pilot.pause(0.5)
            (folder / f"{name}-{size}.svg").write_text(app.export_screenshot(title="humigence"), encoding="utf-8")
        for _, lock in held:
            if lock:
                lock.release()


def _record(workspace: Workspace, name: str, number: int) -> tuple[RunFolder, locks.FileLock | None]:
    live = RECORDINGS[name].live
    run = write(workspace, name, run_id=f"2025-11-{22 - number:02d}_09-31-04", until=time.time() - 1 if live else None)
    return run, locks.try_lock(run.lock) if live else None


def _shows(app: Any) -> bool:
    screen = app.screen
    if not getattr(screen, "ready", False):
        return False
    if hasattr(screen, "snapshot"):
        return screen.snapshot is not None and screen.snapshot.whole
    if hasattr(screen, "_snapshots"):
        return len(screen._snapshots) == len(screen.runs)
    # Where home has room, the run under the cursor is there too.
    return screen.runs is not None and (not screen.runs or screen.has_class("-low") or bool(screen.query("RunPreview Chart")))


async def _wait(pilot: Any, condition: Any) -> None:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > 30:
            raise TimeoutError("a screen did not come up")
        await pilot.pause(0.02)


class _NoWatch(threads.MachineWatch):
    """The real machine is not shown."""

    def run(self) -> None:
        return


def main(arguments: list[str]) -> None:
    threads.MachineWatch = _NoWatch  # type: ignore[misc]
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in arguments[1:] if name in SHOTS] or list(SHOTS)
    sizes = [size for size in arguments[1:] if size in SIZES] or SIZES
    for name in wanted:
        for size in sizes:
            asyncio.run(shoot(folder, name, size))
            print(f"{folder / name}-{size}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
