"""How soon the first screen is there, against an empty Textual app started in turn with it, in a pseudo-terminal each.

From the start of the process to the byte that completes what is waited for: the last line of home, the one word of the empty app.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.harness import Figure, median
from tests.terminal import Terminal

ROUNDS = 15
EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("ready")
Empty().run()
"""


def seconds_until(folder: Path, command: tuple[str, ...], words: str, quit_with: str) -> float:
    came: list[float] = []

    def look(at: float) -> None:
        if not came and any(words in line for line in terminal._screen.display):
            came.append(at)

    with Terminal(folder, command=command, on_change=look) as terminal:
        while not came:
            time.sleep(0.002)
        time.sleep(0.3)
        terminal.press(quit_with)
        terminal.ends()
        return came[0] - terminal.spawned


def measure() -> list[Figure]:
    app: list[float] = []
    empty: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS + 1):
            empty.append(seconds_until(Path(folder), (sys.executable, "-c", EMPTY), "ready", "\x11"))
            app.append(seconds_until(Path(folder), (sys.executable, "-m", "humigence_tui"), "? keys", "q"))
    app, empty = app[1:], empty[1:]  # the first of each reads the disk
    ratios = [mine / its for mine, its in zip(app, empty, strict=True)]
    return [
        Figure("first screen, median", median(app), "s", 0.5),
        Figure("first screen, fastest", min(app), "s"),
        Figure("empty Textual app, median", median(empty), "s"),
        Figure("first screen / empty app, median of pairs", median(ratios), "×", 1.5),
    ]
