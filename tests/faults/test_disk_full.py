"""Full disks: training pauses and goes on, everything else ends with words and leaves nothing half made."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import EnvironmentFault, Stopped
from pipeline.config.schema import Config
from pipeline.runs import control, disk_wait, event_log, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventReader, RunLog
from pipeline.runs.folders import RunFolder, Workspace
from tests.faults.declared import survives
from tests.faults.disks import Disk
from tests.faults.workers import Project, Workers, when

_STARTED = ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True)


def _told(run: RunFolder) -> list[ev.Event]:
    """The events of a log without a gap, every line of it whole."""
    lines = run.events.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    envelopes = EventReader(run).read()
    assert [each.seq for each in envelopes] == list(range(1, len(lines) + 1))
    return [each.event for each in envelopes]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return store.create(Workspace(tmp_path), Config(project="demo"), {})


class _FullDisk:
    """`os.write` to a disk on which `fit` bytes of the next line fit, until it is looked at for the second time."""

    def __init__(self, fit: int) -> None:
        self._fit, self._looks = fit, 0
        self._write = os.write

    def write(self, fd: int, data: bytes) -> int:
        if self._looks >= 2:
            return self._write(fd, data)
        part = data[: self._fit] if self._fit >= 0 else data[:-1]
        self._fit = 0
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(fd, part)

    def look(self) -> None:
        """In the place of asking whether to stop: before the pause, then at each look for room."""
        self._looks += 1


@survives(
    "disk",
    "the event log can't grow (injected)",
    "no byte of a line fits, the first, forty, all but the last",
    "the part is taken back, and the event is written, once, when there is room",
)
@pytest.mark.parametrize("fit", [0, 1, 40, -1])
def test_a_line_that_does_not_fit_is_taken_back_and_written_later(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, fit: int
) -> None:
    monkeypatch.setattr(disk_wait, "_LOOK_EVERY_S", 0.001)
    disk, log = _FullDisk(fit), RunLog(run)
    log.emit(_STARTED)
    log.stop = disk.look
    monkeypatch.setattr(os, "write", disk.write)
    log.emit(ev.Note("what happened"))
    log.close()
    first, *_, continued, last = _told(run)
    assert (first, last) == (_STARTED, ev.Note("what happened"))
    assert isinstance(continued, ev.Continued)
    assert _told(run).count(last) == 1


@survives(
    "disk",
    "the event log's disk is full",
    "before a short line, before one of many blocks",
    "the pause is told in the room that was kept for it; the run goes on by itself when there is room",
)
@pytest.mark.parametrize("length", [10, 20_000])
def test_a_full_disk_pauses_the_log_and_says_so(disk: Disk, length: int) -> None:
    run = store.create(Workspace(disk.path), Config(project="demo"), {})
    log = RunLog(run)
    log.emit(_STARTED)
    disk.fill()
    paused: list[str] = []

    def look() -> None:
        paused.append(event_log.read_state(run).paused)
        if paused[-1]:
            disk.make_room()

    log.stop = look
    long = [ev.Note(f"{number}" + "x" * length) for number in range(600 if length == 10 else 3)]
    for event in long:
        log.emit(event)
    log.close()
    assert "the disk is full" in paused[-1]
    told = _told(run)
    assert [event for event in told if isinstance(event, ev.Note)] == long
    assert [type(event) for event in told if not isinstance(event, ev.Note)] == [ev.AttemptStarted, ev.Paused, ev.Continued]
    assert not event_log.read_state(run).paused


@survives(
    "disk",
    "a person asks to stop a run that waits for room in its log",
    "while it is paused",
    "it stops, and how it ended is in the log",
)
def test_a_run_that_waits_for_room_can_be_stopped(disk: Disk) -> None:
    run = store.create(Workspace(disk.path), Config(project="demo"), {})
    log = RunLog(run)
    log.emit(_STARTED)
    disk.fill()
    log.stop = lambda: bool(event_log.read_state(run).paused)
    with pytest.raises(Stopped, match="full"):
        for number in range(600):
            log.emit(ev.Note(f"note {number}"))
    log.emit(ev.RunStopped("save", None))
    log.close()
    assert _told(run)[-1] == ev.RunStopped("save", None)
    assert event_log.read_state(run).status == "stopped"


@survives(
    "disk",
    "a stop request can't be written",
    "while a run waits for room",
    "its process is told by a signal instead",
)
def test_a_stop_request_that_cannot_be_written_becomes_a_signal(
    disk: Disk, workers: Workers, tiny_model: Path, untroubled: dict[str, Any]
) -> None:
    project = Project(disk.path, tiny_model, workers)
    project.start(when("train_step", step=4) | {"do": "fill", "file": str(disk.filler)})
    project.wait_for("paused")
    control.request_stop(project.run, "save")
    assert workers.exit_status() == 130
    assert not project.run.stop_request.exists()
    assert project.state.status == "stopped"
    disk.make_room()
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "disk",
    "a checkpoint does not fit",
    "found out before it is written; while it is written",
    "training pauses with a message, goes on by itself when there is room, and ends with the bits of an untroubled run",
)
@pytest.mark.parametrize("moment", [when("train_step", step=5), {"in_save": 6}], ids=["before", "while"])
def test_training_waits_for_room_for_a_checkpoint(
    disk: Disk, workers: Workers, tiny_model: Path, untroubled: dict[str, Any], moment: dict[str, Any]
) -> None:
    project = Project(disk.path, tiny_model, workers)
    project.start(moment | {"do": "fill", "file": str(disk.filler)})
    project.wait_for("paused")
    assert control.is_alive(project.run)
    assert "the disk is full" in project.state.paused
    disk.make_room()
    assert workers.exit_status() in (0, 3)
    assert project.left_behind() == untroubled
    assert any(isinstance(event, ev.Continued) for event in _told(project.run))
    assert not list(project.run.checkpoints.glob(".step-*"))


@survives(
    "disk",
    "the prepared data does not fit",
    "before the first row, after the last",
    "exit 4 with words; nothing half made is left; the same command succeeds when there is room",
)
@pytest.mark.parametrize("what", ["tokenizing", "dividing"])
def test_data_that_does_not_fit_leaves_nothing_half_made(disk: Disk, workers: Workers, tiny_model: Path, what: str) -> None:
    project = Project(disk.path, tiny_model, workers)
    fill = {"do": "fill", "file": str(disk.filler)}
    moment = when("step_started", step="preprocess") if what == "tokenizing" else when("step_progress", what=what)
    assert project.to_its_end(moment | fill, until="preprocess") == 4
    error = project.state.error
    assert error is not None and ("full" in error.message or "are needed" in error.message) and "make room" in error.hint
    assert list((disk.path / "data" / "processed").glob("*")) == []
    disk.make_room()
    assert project.to_its_end(until="preprocess") == 0


@survives(
    "disk",
    "the package (adapter) does not fit",
    "before it is written; while it is written",
    "exit 4 with words; the trained adapter stays, no half package is left, and the next start only packs",
)
@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_package_that_does_not_fit_costs_nothing(disk: Disk, workers: Workers, tiny_model: Path, moment: str) -> None:
    project = Project(disk.path, tiny_model, workers, train={"max_steps": 3})
    if moment == "before":
        assert project.to_its_end(when("step_started", step="pack") | {"do": "fill", "file": str(disk.filler)}) == 4
    else:
        assert project.to_its_end({"in_pack": True, "do": "fill", "file": str(disk.filler)}) == 4
    assert "make room" in project.state.error.hint
    assert [path.name for path in (disk.path / "artifacts").glob("*")] == []
    disk.make_room()
    assert project.to_its_end() in (0, 3)
    assert project.state.steps["train"].outcome == "unchanged"
    assert (disk.path / "artifacts" / "tiny" / "adapter_model.safetensors").is_file()


@survives(
    "disk",
    "the disk is full when a run is started",
    "before its folder is made",
    "exit 4 with words; no run appears in the list",
)
def test_a_start_on_a_full_disk_makes_no_run(disk: Disk, workers: Workers, tiny_model: Path) -> None:
    project = Project(disk.path, tiny_model, workers)
    disk.fill()
    with pytest.raises(EnvironmentFault, match="full"):
        project.start()
    assert store.runs_of(project.workspace) == []
    disk.make_room()
    assert project.to_its_end(until="preprocess") == 0
