"""How many bytes a second the app sends to the terminal while a run trains: what an SSH connection carries.

Counted at the pseudo-terminal, before SSH's own compression and framing, in a steady state.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pipeline.runs.folders import Workspace
from tests.benchmarks import flood
from tests.benchmarks.harness import Figure
from tests.recordings.make import write
from tests.terminal import Terminal

SECONDS = 15
MOST_KB = 20
# What is told of each: optimizer steps a second, lines of output a second, keys that lead there, and what is then on the screen.
CASES: dict[str, tuple[float, float, str, str]] = {
    "run, 5 steps/s": (5, 0.5, "\r", "smoothed"),
    "run, 50 steps/s": (50, 0.5, "\r", "smoothed"),
    "run, 50 steps/s, its log flooding": (50, 2000, "\rff", "of a library"),
    "list of runs, 5 steps/s": (5, 0.5, "", "training"),
}


def bytes_per_second(folder: Path, case: str, columns: int, lines: int) -> float:
    steps, output, keys, shows = CASES[case]
    workspace = Workspace(folder)
    run = write(workspace, "running", until=time.time())
    worker = flood.start(run, steps, output, 600)
    try:
        with Terminal(folder, columns=columns, lines=lines) as terminal:
            terminal.says("training")
            for key in keys:
                terminal.press(key)
                time.sleep(1)
            terminal.says(shows)
            time.sleep(2)
            before, began = len(terminal.received), time.monotonic()
            time.sleep(SECONDS)
            return (len(terminal.received) - before) / (time.monotonic() - began)
    finally:
        worker.kill()
        worker.wait()


def measure() -> list[Figure]:
    figures = []
    for columns, lines in ((80, 24), (160, 48)):
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                rate = bytes_per_second(Path(folder), case, columns, lines)
            figures.append(Figure(f"{columns}×{lines}, {case}", rate / 1000, "KB/s", MOST_KB))
    return figures
