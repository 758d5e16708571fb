"""A worker that tells far more than anybody reads: nothing is lost, what the follower holds is bounded, no thread stays."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Event
from tests.pilot import Records
from tests.processes import environment
from tests.waiting import PATIENCE_S, killed, next_line

STEPS = 40_000
# What a step may cost for good: its columns, and their copy for the chart. Twice of what it does.
_BYTES_A_STEP = 320
_FOLLOW = """
import json, sys, threading, time
from pathlib import Path
from humigence_tui.background.follower import Follower
from humigence_tui.background.threads import _give_memory_back
from pipeline.runs.folders import RunFolder

run, steps = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
_give_memory_back()
seen, held, threads = [], {}, threading.active_count()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def post(message):
    seen[:] = [message.snapshot]
    held[message.snapshot.state.step] = resident()
    return True

follower = Follower(post)
follower.start()
follower.follow(run)
print("ready", flush=True)
while not seen or seen[0].live or not seen[0].whole:
    time.sleep(0.01)
follower.close()
(last,) = seen
after = min(step for step in held if step >= steps // 4)
print(json.dumps({
    "status": last.status, "steps": [int(step) for step in last.columns.step] == list(range(1, steps + 1)),
    "held out": len(last.columns.held_step), "log": len(last.log), "output": len(last.output),
    "grown": held[last.state.step] - held[after], "over": last.state.step - after, "threads": threading.active_count() - threads,
}))
"""


def flood(writer: EventWriter, seed: int) -> int:
    """`STEPS` optimizer steps in bursts, with notes, samples and evaluations between them; returns how many evaluations."""
    draw, evaluations, step = random.Random(seed), 0, 0
    writer.emit(ev.AttemptStarted(1, "support", "m", "qlora_nf4", True, "CPU"))
    writer.emit(ev.StepStarted("train"))
    while step < STEPS:
        for _ in range(min(draw.randint(1, 900), STEPS - step)):
            step += 1
            writer.emit(ev.TrainStep(step, STEPS, step / STEPS, draw.random(), 1e-4, 0.4, 11_900, 7_300, 0.2))
        several: list[Event] = [ev.StepProgress("train", step, STEPS, "steps", "x" * 300)] * draw.randint(0, 2000)
        for event in several:
            writer.emit(event)
        writer.emit(ev.Note("n" * draw.randint(0, 60_000)))
        writer.emit(ev.Sampled(step, "What is it?", "s" * draw.randint(0, 20_000)))
        writer.emit(ev.Evaluated(step, draw.random(), 100, 0.1, True))
        evaluations += 1
    writer.emit(ev.RunFinished(0))
    return evaluations


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_flood_is_followed_in_bounded_memory_and_nothing_of_it_is_lost(records: Records, seed: int) -> None:
    run = records.write("prepared", project="support")
    for left in (run.events, run.path / "state.cache"):
        left.unlink(missing_ok=True)
    records.hold(run)
    command = [sys.executable, "-c", _FOLLOW, str(run.path), str(STEPS)]
    follower = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert next_line(follower, follower.stdout) == "ready\n"
        writer = EventWriter(run)
        with run.output_log.open("a") as output:
            output.writelines(f"{number} of a library that tells everything it does\n" * 50 for number in range(2000))
        evaluations = flood(writer, seed)
        writer.close()
        records.let_go()
        told = json.loads(follower.communicate(timeout=PATIENCE_S)[0])
    finally:
        killed(follower)
    assert told["status"] == "finished" and told["steps"] and told["held out"] == evaluations and told["threads"] == 0
    assert told["log"] <= 2000 and told["output"] <= 2000
    assert told["grown"] <= told["over"] * _BYTES_A_STEP + (16 << 20), told
