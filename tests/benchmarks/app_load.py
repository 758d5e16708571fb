"""The app under load: a thousand past runs, a day of events, 5,000 events a second, logs of two gigabytes.

Each in a pseudo-terminal of 160×48 with the app as a person starts it. Memory is what the app's process holds (resident).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.runs import event_log
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks
from tests.benchmarks import flood
from tests.benchmarks.app_keys import MOST_MS, Answers, answering, reading
from tests.benchmarks.harness import Figure, median, quantile
from tests.recordings.make import write
from tests.terminal import Terminal

PAST_RUNS = 1000
HOURS, STEPS_PER_HOUR = 24, 18_000  # five optimizer steps a second
EVENTS_PER_S, FLOOD_S = 5000, 600
LOG_BYTES = 2 << 30
SIZE = {"columns": 160, "lines": 48}
_STEP_LINE = (
    b'{"v":1,"seq":%d,"time":1763803910.312,"attempt":1,"kind":"train_step","step":%d,"total_steps":9000000,"epoch":0.5,"loss":1.61,'
    b'"lr":0.0001,"grad_norm":0.41,"tokens":11885,"trained_tokens":7300,"seconds":0.2922,"counted":true,"peak_memory_bytes":12044}\n'
)


def memory_mb(terminal: Terminal) -> float:
    return float(psutil.Process(terminal.process.pid).memory_info().rss) / 1e6


def threads(terminal: Terminal) -> int:
    return int(psutil.Process(terminal.process.pid).num_threads())


def leave(terminal: Terminal) -> None:
    terminal.press("\x11")
    time.sleep(0.5)
    terminal.press("\r")  # a run that is on stays on
    terminal.ends()


# -------------------------------------------------------------------------------------------------- a thousand runs


def many_runs(folder: Path) -> Iterator[Figure]:
    workspace = Workspace(folder)
    first = [write(workspace, name, run_id=f"2025-01-0{n + 1}_00-00-00") for n, name in enumerate(("diverged", "prepared"))]
    for number in range(PAST_RUNS - len(first)):
        name = f"2025-{2 + number // 300:02d}-{1 + number // 20 % 15:02d}_{number % 20:02d}-00-{number // 300:02d}"
        shutil.copytree(first[number % 2].path, first[0].path.with_name(name))
    for what in ("never listed before", "listed before"):
        named, read = _seconds_until_listed(workspace)
        yield Figure(f"{PAST_RUNS:,} past runs, {what}: all are there after", named, "s", 1.0)
        yield Figure(f"{PAST_RUNS:,} past runs, {what}: those on the screen are read after", read, "s", 1.0)


def _seconds_until_listed(workspace: Workspace) -> tuple[float, float]:
    """Until every run is counted, and until what is told of those that are seen is all there."""
    named: list[float] = []
    read: list[float] = []

    def look(at: float) -> None:
        if not named and terminals and f"{PAST_RUNS:,} runs" in terminals[0].line(0):
            named.append(at)
        if named and not read and not any("being read" in terminals[0].line(number) for number in range(SIZE["lines"])):
            read.append(at)

    terminals: list[Terminal] = []
    with Terminal(workspace.root, on_change=look, **SIZE) as terminal:
        terminals.append(terminal)
        terminal.wait(lambda: read)
        leave(terminal)
        return named[0] - terminal.spawned, read[0] - terminal.spawned


# ------------------------------------------------------------------------------------------------------------- a day


def one_day(folder: Path) -> Iterator[Figure]:
    """Hour by hour as fast as it is taken up; at each a person looks around."""
    workspace = Workspace(folder)
    run = write(workspace, "starting", until=time.time())
    lock = locks.try_lock(run.lock)
    assert lock is not None
    writer = EventWriter(run)
    writer.emit(ev.StepFinished("model", "done", 1.0))
    writer.emit(ev.StepStarted("train"))
    memory: list[float] = []
    running: list[int] = []
    with Terminal(workspace.root, **SIZE) as terminal:
        terminal.says("1 running")
        terminal.press("\r")
        for hour in range(1, HOURS + 1):
            _one_hour(writer, run, hour)
            terminal.wait(lambda hour=hour: f"{hour * STEPS_PER_HOUR:,}" in terminal.line(0))  # type: ignore[misc]
            _look_around(terminal)
            memory.append(memory_mb(terminal))
            running.append(threads(terminal))
        leave(terminal)
    writer.close()
    lock.release()
    steps = (HOURS - 2) * STEPS_PER_HOUR
    yield Figure("a day of events: memory after an hour", memory[0], "MB")
    yield Figure("a day of events: memory after 24 hours", memory[-1], "MB")
    yield Figure("a day of events: growth from hour 2, an optimizer step", 1e6 * (memory[-1] - memory[1]) / steps, "bytes", 400)
    yield Figure("a day of events: threads more than after an hour", running[-1] - running[0], "threads", 0)


def _one_hour(writer: EventWriter, run: RunFolder, hour: int) -> None:
    for step in range((hour - 1) * STEPS_PER_HOUR + 1, hour * STEPS_PER_HOUR + 1):
        flood.write_step(writer, step, total=HOURS * STEPS_PER_HOUR + 1000)
    with run.output_log.open("a") as output:
        output.write("a library says something about step after step after step\n" * 10_000)


def _look_around(terminal: Terminal) -> None:
    for keys, words in (
        ("f", "log"),
        ("f", "log"),
        ("f", "log"),
        ("c", "a adds a run"),
        ("\x1b", "x stop"),
        ("?", "everywhere"),
        ("\x1b", "x stop"),
    ):
        terminal.press(keys)
        terminal.says(words)
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------------------ a flood


def events_flood(folder: Path) -> Iterator[Figure]:
    workspace = Workspace(folder)
    run = write(workspace, "running", until=time.time())
    begun = event_log.read_state(run).step
    worker = flood.start(run, EVENTS_PER_S, 2000, FLOOD_S + 8)
    terminal, answers = answering(workspace.root, SIZE["columns"], SIZE["lines"])
    try:
        with terminal:
            terminal.says("1 running")
            terminal.press("\r")
            terminal.says("smoothed")
            _press_for(answers, FLOOD_S / 10)
            early, running = memory_mb(terminal), threads(terminal)
            _press_for(answers, 0.9 * FLOOD_S)
            late, more = memory_mb(terminal), threads(terminal) - running
            worker.wait()
            ended = time.monotonic()
            told = json.loads((run.path / "flood.json").read_text())["steps"]
            last = begun + told
            terminal.says(f"{last:,} steps", "✘ crashed")
            behind = time.monotonic() - ended
            leave(terminal)
    finally:
        worker.kill()
    yield Figure(f"{EVENTS_PER_S:,} events/s: emitted", told / (FLOOD_S + 8), "events/s")
    yield Figure(f"{EVENTS_PER_S:,} events/s: a key is answered, median", 1e3 * median(answers.seconds), "ms")
    yield Figure(f"{EVENTS_PER_S:,} events/s: 99th percentile", 1e3 * quantile(answers.seconds, 0.99), "ms", MOST_MS)
    yield Figure(f"{EVENTS_PER_S:,} events/s: keys without an answer", answers.unanswered, "keys", 0)
    yield Figure(f"{EVENTS_PER_S:,} events/s: the screen is behind at the end", behind, "s", 2.0)
    yield Figure(f"{EVENTS_PER_S:,} events/s: memory at the end", late, "MB")
    yield Figure(
        f"{EVENTS_PER_S:,} events/s: growth, an event", 1e6 * (late - early) / (0.9 * FLOOD_S * EVENTS_PER_S), "bytes", 200
    )
    yield Figure(f"{EVENTS_PER_S:,} events/s: threads more at the end", more, "threads", 0)


def _press_for(answers: Answers, seconds: float) -> None:
    """Towards the middle of a curve that grows: at its ends a key changes nothing."""
    for _ in range(20):
        answers.terminal.press(",")
    time.sleep(1)
    began = time.monotonic()
    while (since := time.monotonic() - began) < seconds:
        at = int(reading(answers.terminal).replace(",", "") or 0)
        answers.press("." if at < EVENTS_PER_S * since / 2 else ",", reading, patience_s=2)
        time.sleep(0.07)


# ----------------------------------------------------------------------------------------------------------- big logs


def big_logs(folder: Path) -> Iterator[Figure]:
    workspace = Workspace(folder)
    run = write(workspace, "crashed")
    with run.output_log.open("r+b") as output:
        output.truncate(LOG_BYTES)
        output.seek(LOG_BYTES)
        output.write(b"\nthe last line of two gigabytes\n")
    with Terminal(workspace.root, **SIZE) as terminal:
        terminal.says("1 run")
        began = time.monotonic()
        terminal.press("\r")
        terminal.says("the last line of two gigabytes")
        yield Figure("2 GB of output: its last line is there after", time.monotonic() - began, "s", 1.0)
        yield Figure("2 GB of output: memory", memory_mb(terminal), "MB", 300)
        leave(terminal)
    steps = _write_steps(run)
    most = 0.0
    with Terminal(workspace.root, **SIZE) as terminal:
        began = time.monotonic()
        terminal.says("1 run", "smoothed")
        yield Figure("2 GB of events, no cache: a first curve after", time.monotonic() - began, "s", 1.0)
        while f"{steps:,}" not in terminal.text:
            most = max(most, memory_mb(terminal))
            time.sleep(0.2)
        yield Figure(f"2 GB of events, {steps:,} steps: all after", time.monotonic() - began, "s")
        yield Figure("2 GB of events: most memory, share of the log", max(most, memory_mb(terminal)) * 1e6 / LOG_BYTES, "×", 0.5)
        leave(terminal)


def _write_steps(run: RunFolder) -> int:
    """Optimizer steps until the log is that long."""
    state = event_log.read_state(run)
    seq, step = state.last_seq, state.step
    with run.events.open("ab") as log:
        while log.tell() < LOG_BYTES:
            log.write(b"".join(_STEP_LINE % (seq + n, step + n) for n in range(1, 10_001)))
            seq, step = seq + 10_000, step + 10_000
    return step


def measure() -> list[Figure]:
    figures: list[Figure] = []
    for part in (many_runs, one_day, events_flood, big_logs):
        with tempfile.TemporaryDirectory() as folder:
            figures += part(Path(folder))
    return figures
