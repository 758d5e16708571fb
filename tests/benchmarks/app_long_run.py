"""A run of 100,000 recorded steps: how soon its whole curve is on the screen, with its cache and without, and how soon keys of
the chart are answered.

From the key that opens it in the list to the output after which the last step is told and the log is no longer being read.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from pipeline.runs import fold_cache
from pipeline.runs.folders import RunFolder, Workspace
from tests.benchmarks.app_keys import Answers, answering
from tests.benchmarks.harness import Figure, median, quantile
from tests.recordings.make import write
from tests.terminal import Terminal

OPENINGS = 5
ROUNDS = 12


def opened(terminal: Terminal) -> bool:
    return "100,000 steps" in terminal.line(0)


def seconds_to_open(workspace: Workspace, columns: int, lines: int, run: RunFolder, *, cached: bool) -> float:
    """The list is up and has its cache of what it shows; the run's own is there or not."""
    came = threading.Event()
    at: list[float] = []

    def look(when: float) -> None:
        if not at and terminals and opened(terminals[0]):
            at.append(when)
            came.set()

    terminals: list[Terminal] = []
    with Terminal(workspace.root, columns=columns, lines=lines, on_change=look) as terminal:
        terminals.append(terminal)
        terminal.says("1 run")
        time.sleep(1.5)
        if not cached:
            fold_cache.path_of(run).unlink()
        began = time.monotonic()
        terminal.press("\r")
        if not came.wait(60):
            raise TimeoutError(terminal.text)
        terminal.press("\x11")
        terminal.ends()
    return at[0] - began


def chart_rows(terminal: Terminal) -> tuple[str, ...]:
    return tuple(terminal.line(number) for number in range(1, 18))


def key_seconds(workspace: Workspace, columns: int, lines: int) -> Answers:
    terminal, answers = answering(workspace.root, columns, lines)
    with terminal:
        terminal.says("1 run")
        terminal.press("\r")
        terminal.wait(lambda: opened(terminal))
        time.sleep(1)
        for _ in range(ROUNDS):
            for key in ("+", "+", "h", "h", "l", "s", "y", "s", "y", "s", "s", "-", "-"):
                answers.press(key, chart_rows, patience_s=2)
                time.sleep(0.05)
        terminal.press("\x11")
        terminal.ends()
    return answers


def measure() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        run = write(workspace, "long")
        for columns, lines in ((80, 24), (160, 48)):
            size = f"{columns}×{lines}"
            cold = [seconds_to_open(workspace, columns, lines, run, cached=False) for _ in range(OPENINGS)]
            warm = [seconds_to_open(workspace, columns, lines, run, cached=True) for _ in range(OPENINGS)]
            answers = key_seconds(workspace, columns, lines)
            figures += [
                Figure(f"{size}, opened without its cache, median", median(cold), "s", 1.0),
                Figure(f"{size}, opened with its cache, median", median(warm), "s", 1.0),
                Figure(f"{size}, zoom, pan, scale: median", 1e3 * median(answers.seconds), "ms"),
                Figure(f"{size}, zoom, pan, scale: 99th percentile", 1e3 * quantile(answers.seconds, 0.99), "ms"),
            ]
    return figures
