"""A worker that only writes events, for tests of what happens around one: `python -m tests.screens.fake_worker RUN_FOLDER`.

In a session of its own it takes the run's lock and writes optimizer steps until a file `finish` lies in the folder.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
from pipeline.system import locks

EVERY_S = 0.03
STEPS = 10_000


def main(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a worker takes it for a request to stop
    run = RunFolder(Path(folder))
    lock = locks.try_lock(run.lock)
    assert lock is not None
    writer = EventWriter(run)
    writer.emit(ev.AttemptStarted(os.getpid(), run.project, "made/up", "qlora_nf4", True, "CPU"))
    writer.emit(ev.StepStarted("train"))
    step = 0
    while not (run.path / "finish").exists():
        step += 1
        writer.emit(ev.TrainStep(step, STEPS, 1.0, 2.0 / step + 1, 1e-4, 0.4, 1000, 700, EVERY_S))
        time.sleep(EVERY_S)
    writer.emit(ev.StepFinished("train", "done", step * EVERY_S))
    writer.emit(ev.RunFinished(0))
    writer.close()
    lock.release()


if __name__ == "__main__":
    main(sys.argv[1])
