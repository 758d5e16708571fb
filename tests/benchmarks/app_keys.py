"""How soon a key is answered while a run emits 50 events a second and its log floods, at 80×24 and 160×48.

The app runs in a pseudo-terminal, the flood in a process of its own. From the write of the key to the arrival of the output after
which the screen shows its effect; what this process needs to see that is not counted.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.runs.folders import Workspace
from tests.benchmarks import flood
from tests.benchmarks.harness import Figure, median, quantile
from tests.recordings.make import write
from tests.terminal import Terminal

EVENTS_PER_S, LINES_PER_S = 50, 2000
PRESSES = 200
MOST_MS = 50
FIRST_ROW = 3


class Answers:
    """Press a key, wait for what it changes, and keep how long that took."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.seconds: list[float] = []
        self.unanswered = 0
        self._changed = threading.Event()
        self._at = 0.0

    def on_change(self, at: float) -> None:
        self._at = at
        self._changed.set()

    def press(self, key: str, sees: Callable[[Terminal], object], patience_s: float = 5.0) -> None:
        """`sees`: what is compared before and after."""
        before = sees(self.terminal)
        self._changed.clear()
        began = time.monotonic()
        self.terminal.press(key)
        while time.monotonic() - began < patience_s:
            self._changed.wait(0.5)
            self._changed.clear()
            at = self._at
            if sees(self.terminal) != before:
                self.seconds.append(at - began)
                return
        self.unanswered += 1


def answering(folder: Path, columns: int, lines: int) -> tuple[Terminal, Answers]:
    holder: list[Answers] = []
    terminal = Terminal(folder, columns=columns, lines=lines, on_change=lambda at: holder[0].on_change(at) if holder else None)
    holder.append(Answers(terminal))
    return terminal, holder[0]


def reading(terminal: Terminal) -> str:
    """The step under the reading of the chart: only the keys move it."""
    found = re.search(r"step ([\d,]+)   train", terminal.line(2) + terminal.line(3))
    return found[1] if found else ""


def marked_row(terminal: Terminal) -> int:
    """The line of the cursor in the list of runs."""
    with terminal._guard:
        marks = [terminal._screen.buffer[number][0].data for number in range(FIRST_ROW, FIRST_ROW + 10)]
    return FIRST_ROW + marks.index("▌") if "▌" in marks else -1


def _flooded(folder: Path, columns: int, lines: int) -> list[Figure]:
    size = f"{columns}×{lines}"
    workspace = Workspace(folder / size)
    run = write(workspace, "running", until=time.time())
    for number in range(40):
        write(workspace, "stopped", run_id=f"2025-10-{number % 28 + 1:02d}_09-{number:02d}-00")
    worker = flood.start(run, EVENTS_PER_S, LINES_PER_S, 600)
    terminal, answers = answering(workspace.root, columns, lines)
    try:
        with terminal:
            terminal.says("training", "41 runs")
            _press_many(answers, ("j", "k"), marked_row)
            listed, answers.seconds = answers.seconds, []
            terminal.press("k" * 10)
            terminal.wait(lambda: marked_row(terminal) == FIRST_ROW)
            terminal.press("\r")
            terminal.says("smoothed")
            terminal.press("ff")  # the log as libraries write it, where the flood is
            terminal.says("of a library")
            for _ in range(30):
                terminal.press(",")
            time.sleep(1)
            _press_many(answers, (",", "."), reading)
            return [
                Figure(f"{size}, list of runs: median", 1e3 * median(listed), "ms"),
                Figure(f"{size}, list of runs: 99th percentile", 1e3 * quantile(listed, 0.99), "ms", MOST_MS),
                Figure(f"{size}, run with its log: median", 1e3 * median(answers.seconds), "ms"),
                Figure(f"{size}, run with its log: 99th percentile", 1e3 * quantile(answers.seconds, 0.99), "ms", MOST_MS),
                Figure(f"{size}, keys without an answer", answers.unanswered, "keys", 0),
            ]
    finally:
        worker.kill()
        worker.wait()


def _press_many(answers: Answers, keys: tuple[str, str], sees: Callable[[Terminal], object]) -> None:
    draw = random.Random(1)
    sys.setswitchinterval(0.0005)  # when output comes is noted by another thread
    for number in range(PRESSES):
        answers.press(keys[number // 5 % 2], sees)
        time.sleep(draw.uniform(0.02, 0.12))  # at no fixed time within a frame


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return [figure for size in ((80, 24), (160, 48)) for figure in _flooded(Path(folder), *size)]
