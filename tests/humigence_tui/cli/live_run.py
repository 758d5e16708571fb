"""A program that holds a run and answers a request to stop, as a worker does."""

from __future__ import annotations

LIVE = """
import os, sys, time
from pathlib import Path
from pipeline.runs import control; from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
from pipeline.system import locks
run = RunFolder(Path(sys.argv[1]))
lock = locks.try_lock(run.lock)
writer = EventWriter(run)
writer.emit(ev.AttemptStarted(os.getpid(), "demo", "tiny", "qlora_nf4", True))
writer.emit(ev.StepStarted("train"))
print("ready", flush=True)
step, mode = 0, None
while not mode:
    step = min(step + 1, 599)  # it lasts until it is asked to stop, however long that takes
    writer.emit(ev.TrainStep(step, 600, 0.1, 2.0, 1e-4, 1.0, 10, 5, 0.1))
    time.sleep(0.1)
    mode = control.stop_requested(run)
writer.emit(ev.StopAcknowledged(mode))
writer.emit(ev.RunStopped(mode, step))
"""
