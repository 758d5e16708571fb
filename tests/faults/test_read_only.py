"""The disk of a run becomes read-only while the run is on: not even its log can say so."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli.shared import run_report
from pipeline.common.errors import EnvironmentFault
from pipeline.common.files import flush_tree, write_json
from pipeline.config.schema import Config
from pipeline.doctor import system
from pipeline.runner.worker import REQUEST_FILE, run_held
from pipeline.runs import control, event_log, post_mortem, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventReader
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.request import Request
from pipeline.system import disk
from tests.faults.declared import survives
from tests.faults.disks import FailingDisk
from tests.faults.workers import Project, Workers, when
from tests.processes import environment


@survives(
    "disk",
    "the kernel makes the disk read-only after an error on it",
    "in training, in a save, in evaluation, in packing",
    "exit 4; the run shows as crashed and tells that its disk is read-only; mended, it resumes to the bits of an untroubled run",
)
def test_a_disk_that_becomes_read_only_costs_only_what_was_not_saved(
    failing_disk: FailingDisk, workers: Workers, tiny_model: Path, untroubled: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(failing_disk.path, tiny_model, workers)
    flush_tree(project.root)  # the rows are a person's: long on the disk
    moments = [when("train_step", step=5), {"in_save": 6}, when("step_started", step="evaluate"), {"in_pack": True}]
    for number, moment in enumerate(moments):
        fault = moment | {"do": "shut_the_disk", "trigger": str(failing_disk.trigger)}
        assert project.to_its_end(fault, resume=number > 0) == 4, moment
        assert control.status_of(project.run, project.state) == "crashed"
        run_report.print_outcome(project.run, project.state)
        assert "its disk is read-only now" in capsys.readouterr().err
        (check,) = [each for each in system.checks(project.root) if each.name == "workspace"]
        assert check.status == "problem" and "read-only" in check.value
        with pytest.raises(EnvironmentFault, match="read-only"):
            project.start(resume=True)
        failing_disk.mend()
    assert not post_mortem.why(project.run)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "disk",
    "the same, before the worker could write a word",
    "when its process starts",
    "exit 4 all the same, though nothing of it can be told",
)
def test_a_worker_on_a_read_only_disk_exits_as_one(failing_disk: FailingDisk) -> None:
    run = store.create(Workspace(failing_disk.path), Config(project="demo"), {})
    write_json(run.path / REQUEST_FILE, asdict(Request(train=False, until="validate")))
    with run.output_log.open("ab") as log:
        failing_disk.trigger.write_text("a test")
        command = [sys.executable, "-P", "-m", "pipeline.runner.worker", str(run.path)]
        assert subprocess.run(command, stdout=log, stderr=log, env=environment(), check=False, timeout=120).returncode == 4


class _ReadOnlyFrom:
    """`os.write` to a log that takes `fit` lines and no more."""

    def __init__(self, fit: int) -> None:
        self._left, self._write = fit, os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if data.startswith(b"{"):
            self._left -= 1
            if self._left < 0:
                _read_only()
        return self._write(fd, data)


def _read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@survives(
    "disk",
    "the event log can't be written any more (injected)",
    "at its first line, in the first step, at the line that tells the end",
    "exit 4 with words for whoever started it; the log ends with a whole line",
)
@pytest.mark.parametrize("fit", [0, 1, 2, 3])
def test_a_log_that_cannot_be_written_ends_the_run_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: int) -> None:
    run = store.create(Workspace(tmp_path), Config.model_validate({"project": "demo", "compute": {"gpu": "cpu"}}), {})
    monkeypatch.setattr(os, "write", _ReadOnlyFrom(fit))
    monkeypatch.setattr(disk.Reserve, "release", _read_only)
    with pytest.raises(EnvironmentFault, match="read-only") as caught:
        run_held(run, Request(train=False, until="validate"))
    assert caught.value.exit_code == 4
    assert len(EventReader(run).read()) == fit == run.events.read_bytes().count(b"\n")
    assert not control.is_alive(run)


# ------------------------------------------------------------------------------------- what a crash is put down to


@pytest.fixture
def crashed(tmp_path: Path) -> RunFolder:
    """A run whose process is gone, with what its start noted."""
    run = store.create(Workspace(tmp_path), Config(project="demo"), {"starts": [post_mortem.witnesses()]})
    writer = event_log.EventWriter(run)
    writer.emit(ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True))
    writer.close()
    return run


@survives(
    "death",
    "the kernel ends the worker for want of memory; the machine is restarted",
    "before a look at the run",
    "the run is told to have crashed, with that as the reason; without evidence no such thing is claimed",
)
def test_a_crash_is_put_down_to_what_the_machine_tells(
    crashed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        run_report.print_outcome(crashed, event_log.read_state(crashed))
        return capsys.readouterr().err

    assert post_mortem.why(crashed) == ""
    assert "most often the machine ran out of memory" in told()
    now = post_mortem.witnesses()
    monkeypatch.setattr(post_mortem, "_VMSTAT", tmp_path / "vmstat")
    (tmp_path / "vmstat").write_text(f"nr_free_pages 1\noom_kill {now['killed_for_memory'] + 1}\n")
    assert "ended a process for want of memory since the run began" in told()
    monkeypatch.setattr(post_mortem, "_BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another\n")
    assert "the machine was restarted since" in told()
    for name in ("vmstat", "boot"):
        (tmp_path / name).unlink()
    assert post_mortem.why(crashed) == ""
    crashed.meta.write_text(json.dumps({"starts": [{"killed_for_memory": "many", "boot": None}]}))
    assert post_mortem.why(crashed) == ""


@survives(
    "disk",
    "a file system that the kernel shut without its read-only flag; another one beside it",
    "at a look",
    "the one is told to be read-only, the other not",
)
def test_a_mount_that_only_looks_like_this_one_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mounts")
    for told, read_only in [
        (f"1 2 {number} / /x rw - ext4 /dev/x rw,errors=remount-ro,emergency_ro", True),
        (f"1 2 {number} / /x rw - ext4 /dev/x rw,errors=remount-ro", False),
        ("1 2 999:999 / /x rw - ext4 /dev/x rw,emergency_ro", False),
    ]:
        (tmp_path / "mounts").write_text(told + "\n")
        assert disk.is_read_only(tmp_path / "not yet there") == read_only
