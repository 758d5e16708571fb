"""What the open app costs a run: real tokens a second of one training while it is watched and while it is not, in turn.

    make bench WHAT=app-open
    python -m tests.benchmarks.app_open FOLDER [--pairs N] [--seconds S] [--json FILE]

The training is the one `tests.benchmarks.train_step` calls "at the shipped defaults", or a small one without a GPU. The app runs
in a terminal of 160 × 48 whose screen is read, as over SSH; its start belongs to the time it is open.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.runs.control import request_stop
from pipeline.runs.event_log import EventReader, read_state
from pipeline.runs.events import TrainStep
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.store import runs_of
from pipeline.system.gpu import choose_device
from tests.benchmarks.harness import Figure, write_result
from tests.benchmarks.train_step import ON_THE_CPU, VARIANTS, prepare
from tests.terminal import Terminal

PROJECT = "watched"
PAIRS, SECONDS = 5, 10.0
_STEPS = 100_000  # it is stopped when all is seen
_WARM_STEPS = 10


class Stretch(NamedTuple):
    """Of the training, in seconds since 1970, the times of the events."""

    watched: bool
    begin: float
    end: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each stretch")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ratios = watched_to_alone(arguments.folder, arguments.pairs, arguments.seconds)
    if arguments.json:
        write_result(arguments.json, {"pairs": ratios, "median": statistics.median(ratios)})


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="app-open-") as folder:
        ratios = watched_to_alone(Path(folder), PAIRS, SECONDS)
    return [Figure("slower with the app open, the median pair", 100 * (1 - statistics.median(ratios)), "%", 1.0)]


def watched_to_alone(folder: Path, pairs: int, seconds: float) -> list[float]:
    """The ratio of the rates of each pair of stretches."""
    cuda = choose_device("auto").kind == "cuda"
    (variant,) = [VARIANTS["at the shipped defaults (dropout 0.05)"]] if cuda else ON_THE_CPU.values()
    prepare(folder, variant.shape)
    (folder / f"{PROJECT}.json").write_text(json.dumps(variant.settings(PROJECT, _STEPS)))
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "train", "--train", "--config", f"{PROJECT}.json"]
    training = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run = _warm(folder, training)
        stretches = [each for _ in range(pairs) for each in _pair(folder, seconds)]
    finally:
        for run in runs_of(Workspace(folder), PROJECT)[:1]:
            request_stop(run, "abort")
        training.wait()
    return _report(run, stretches)


def _warm(folder: Path, training: subprocess.Popen[bytes]) -> RunFolder:
    """The run, once it has made a few steps."""
    while training.poll() is None:
        found = runs_of(Workspace(folder), PROJECT)
        if found and len(read_state(found[0]).train) >= _WARM_STEPS:
            return found[0]
        time.sleep(0.5)
    raise SystemExit(f"the training ended with {training.returncode} before it was watched")


def _pair(folder: Path, seconds: float) -> tuple[Stretch, Stretch]:
    opened = time.time()
    with Terminal(folder, columns=160, lines=48) as terminal:
        terminal.says(PROJECT)
        terminal.press("\r")
        terminal.says("d detach")
        time.sleep(max(0.0, opened + seconds - time.time()))
    closed = time.time()
    time.sleep(seconds)
    return Stretch(True, opened, closed), Stretch(False, closed, time.time())


def _report(run: RunFolder, stretches: Sequence[Stretch]) -> list[float]:
    """Prints the rates; returns watched to unwatched of each pair."""
    steps = [(told.time, told.event) for told in EventReader(run).read() if isinstance(told.event, TrainStep)]
    rates = []
    for stretch in stretches:
        inside = [step for time_, step in steps if stretch.begin <= time_ - step.seconds and time_ <= stretch.end]
        if not inside:
            raise SystemExit("a step takes longer here than a stretch: give more --seconds")
        rates.append(sum(step.tokens for step in inside) / sum(step.seconds for step in inside))
    ratios = [watched / alone for watched, alone in zip(rates[::2], rates[1::2], strict=True)]
    for watched, alone, ratio in zip(rates[::2], rates[1::2], ratios, strict=True):
        print(f"watched {watched:,.0f} tok/s, alone {alone:,.0f} tok/s: {100 * (ratio - 1):+.2f} %")
    print(f"median of {len(ratios)} pairs: {100 * (statistics.median(ratios) - 1):+.2f} %")
    return ratios


if __name__ == "__main__":
    main()
