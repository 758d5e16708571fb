"""A worker that only writes: `python -m tests.benchmarks.flood RUN_FOLDER EVENTS_PER_S LOG_LINES_PER_S SECONDS`.

It takes the run's lock, goes on where the log ends, writes optimizer steps and now and then what comes with them, and ends
without a word, as a killed worker would. What it was late with when it ended is in `flood.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from pipeline.runs import control, event_log
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
from pipeline.system import locks
from tests.processes import environment

TICK_S = 0.02
EVALUATE_EVERY = 200


def flood(run: RunFolder, events_per_s: float, lines_per_s: float, seconds: float) -> None:
    first = event_log.read_state(run).step + 1
    lock = locks.try_lock(run.lock)
    assert lock is not None
    writer, began, step, lines = EventWriter(run), time.monotonic(), first, 0
    with run.output_log.open("ab", buffering=0) as output:
        while (since := time.monotonic() - began) < seconds:
            while step - first < since * events_per_s:
                write_step(writer, step)
                step += 1
            due = int(since * lines_per_s) - lines
            output.write(
                b"".join(b"[rank0] batch %d of a library that tells everything it does\n" % (lines + n) for n in range(due))
            )
            lines += due
            time.sleep(TICK_S)
    (run.path / "flood.json").write_text(json.dumps({"steps": step - first, "seconds": since, "lines": lines}))
    writer.close()
    lock.release()


def write_step(writer: EventWriter, step: int, total: int = 2_000_000) -> None:
    value = 1.2 + 1.3 / (1 + step / 400) + 0.05 * ((step * 7919) % 13 - 6) / 6
    writer.emit(ev.TrainStep(step, total, step / 1000, value, 1e-4, 0.4, 11_900, 7_300, 0.02, True, 12 << 30))
    if step % EVALUATE_EVERY == 0:
        writer.emit(ev.Evaluated(step, value, 91_204, 2.0, True))
        writer.emit(ev.Sampled(step, "Explain overfitting simply.", f"At step {step} it is when a model learns by heart."))


def start(run: RunFolder, events_per_s: float, lines_per_s: float, seconds: float) -> subprocess.Popen[bytes]:
    """The flood in a process of its own; it ends by itself."""

    arguments = [str(run.path), str(events_per_s), str(lines_per_s), str(seconds)]
    command = [sys.executable, "-m", "tests.benchmarks.flood", *arguments]
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    while not control.is_alive(run):
        time.sleep(0.02)
    return process


if __name__ == "__main__":
    flood(RunFolder(Path(sys.argv[1])), *map(float, sys.argv[2:5]))
