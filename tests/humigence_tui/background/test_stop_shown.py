"""A request to stop is shown as soon as it lies in the run folder, long before the run's process looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from humigence_tui.background.follower import Following
from pipeline.config.schema import Config
from pipeline.runs import control, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import StopMode
from pipeline.runs.folders import Workspace
from pipeline.system import locks
from screens.run.run_text import status_cell


@pytest.mark.parametrize(("mode", "said"), [("save", "stopping after this step…"), ("abort", "aborting…")])
def test_a_request_is_shown_before_it_is_answered(tmp_path: Path, mode: StopMode, said: str) -> None:
    run = store.create(Workspace(tmp_path), Config(project="faithful"), {})
    writer = EventWriter(run)
    writer.emit(ev.AttemptStarted(1, run.project, "made/up", "qlora_nf4", True, "CPU"))
    writer.emit(ev.StepStarted("train"))
    writer.close()
    lock = locks.try_lock(run.lock)
    assert lock is not None
    with lock:
        following = Following(run)
        following.read_log()
        assert following.snapshot().stopping is None
        control.request_stop(run, mode)
        following.read_log()
        assert said in str(status_cell(following.snapshot()))
