"""The machine changes under a run: its clock, its GPU, its disks, its name; and it is another machine altogether."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleanup import retention
from pipeline.common.errors import EnvironmentFault
from pipeline.common.files import write_json
from pipeline.common.text import duration
from pipeline.config.schema import Config
from pipeline.doctor import system
from pipeline.runs import control, fold_cache, post_mortem, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Envelope, to_line
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.forecast import expect
from pipeline.runs.state import RunState, Status
from pipeline.system import gpu
from screens.frame.run_snapshot import Freezer, busy_now
from tests.faults.declared import survives
from tests.faults.disks import Disk
from tests.faults.workers import Project, Workers, when
from tests.folding import fold
from tests.pipeline.system.nvml import Card, FakeNvml
from tests.processes import python

_STARTED = ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return store.create(Workspace(tmp_path), Config(project="demo"), {})


def _written(run: RunFolder, *events: ev.Event) -> RunFolder:
    writer = EventWriter(run)
    for event in events:
        writer.emit(event)
    writer.close()
    return run


def _step(number: int) -> ev.TrainStep:
    return ev.TrainStep(number, 10, number / 10, 2.0, 1e-4, 1.0, 10, 5, 0.5)


# ------------------------------------------------------------------------------------------------------------ clocks

_COURSE: tuple[ev.Event, ...] = (
    _STARTED, ev.StepStarted("preprocess"), ev.StepFinished("preprocess", "done", 2.0), ev.StepStarted("train"), _step(1),
    _step(2), ev.Evaluated(2, 1.5, 10, 0.1, True), _STARTED, ev.Resumed(1), ev.StepStarted("train"), _step(2), _step(3),
)  # fmt: skip


@survives(
    "machine",
    "the clock jumps, backwards and forwards, by up to centuries",
    "before any event of a run that was resumed (property)",
    "no duration is negative, the time left is never less than the steps' own seconds, and nothing is left out of the curves",
)
@given(times=st.lists(st.floats(0, 1e10), min_size=len(_COURSE) + 1, max_size=len(_COURSE) + 1))
def test_a_clock_that_jumps_makes_no_duration_negative(times: list[float]) -> None:
    *of_events, now = times
    envelopes = [Envelope(number, time, 1, event) for number, (time, event) in enumerate(zip(of_events, _COURSE, strict=True), 1)]
    state = fold(envelopes, RunState())
    status: Status = "running"
    snapshot = Freezer(RunFolder(Path("x"))).freeze(state, fold_cache.summarize(state), status, now, [], [])
    assert busy_now(snapshot) >= snapshot.state.busy_seconds == 3.5
    expected = expect(state)
    assert expected is not None and expected.left_s(now) >= 7 * 0.5 - 0.5
    assert list(state.train["step"]) == [1, 2, 3]
    assert not duration(now - of_events[0]).startswith("-")


@survives(
    "machine",
    "the clock was set back, or summer time ended",
    "before a new run is made",
    "the new run is still the newest of the list, the one that is resumed and shown",
)
def test_a_run_made_after_the_clock_was_set_back_is_the_newest(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name in ("2099-10-25_02-59-59", "2099-10-25_02-59-59_02", "notes"):
        (workspace.project("demo") / name).mkdir(parents=True)
        (workspace.project("demo") / name / "config.json").write_text("{}")
    (workspace.project("demo") / "notes" / "config.json").unlink()
    made = [store.create(workspace, Config(project="demo"), {}) for _ in range(3)]
    assert [run.run_id for run in store.runs_of(workspace, "demo")][:3] == [run.run_id for run in reversed(made)]
    assert store.find_run(workspace, None, "demo") == made[-1]


@survives(
    "machine",
    "the clock is set, forward or back, while a run is on; the machine is restarted",
    "before a look at the machine",
    "the doctor says by how much since which run; of another boot nothing is claimed",
)
@pytest.mark.parametrize(("moved", "words"), [(3 * 3600.0, "set forward by 3 h 0 m"), (-3600.0, "set back by 1 h 0 m"), (20, "")])
def test_a_clock_that_was_set_is_told_by_the_doctor(run: RunFolder, moved: float, words: str) -> None:
    def clock() -> str:
        (check,) = [each for each in system.checks(run.path.parent.parent.parent) if each.name == "clock"]
        return check.advice

    noted = post_mortem.witnesses()
    for boot, told in ((noted["boot"], words), ("another", "")):
        write_json(run.meta, {"starts": [noted | {"boot": boot, "booted": noted["booted"] - moved}]})
        assert told in clock() and (told or "was set" not in clock())
    for nothing in ({}, {"boot": noted["boot"], "booted": "noon"}):
        write_json(run.meta, {"starts": [nothing]})
        assert "was set" not in clock()


@survives(
    "machine",
    "the clock is set back between a command and the run it starts",
    "before the first event",
    "the command still shows what the run tells",
)
def test_a_command_shows_a_run_whose_clock_is_behind(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    from humigence_tui.cli.shared.follow import follow_started

    told = (_STARTED, ev.Note("of an earlier attempt"), _STARTED, ev.Note("of this one"), ev.RunFinished(0))
    lines = [to_line(Envelope(number, 1000.0 - number, 1 + number // 3, event)) for number, event in enumerate(told, 1)]
    run.events.write_text("\n".join(lines) + "\n")
    follow_started(run, after_seq=2, as_json=False)
    shown = capsys.readouterr().err
    assert "of this one" in shown and "of an earlier attempt" not in shown


# -------------------------------------------------------------------------------------------------------------- GPU


@survives(
    "machine",
    "a GPU falls off the bus while the panel looks at it",
    "between two looks; one by one, each question the driver no longer answers",
    "the reading says why, keeps what is known, and finds the GPU again when it is back",
)
def test_a_gpu_that_vanishes_is_told_and_found_again() -> None:
    cards = [Card("GPU-a", 60 << 30), Card("GPU-b", 50 << 30)]
    assert len(gpu.survey(FakeNvml(*cards)).gpus) == 2
    lost = gpu.survey(FakeNvml(driver="GPU is lost"))
    assert lost.gpus == () and "GPU is lost" in lost.problem
    for question in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetName"):
        some = gpu.survey(FakeNvml(Card("GPU-a", 60 << 30, refuses={question}), cards[1])).gpus
        assert some[-1].uuid == "GPU-b" and some[-1].memory_free_bytes == 50 << 30
    with pytest.raises(EnvironmentFault, match="GPU-a is not there"):
        gpu.choose_device("GPU-a", nvml=FakeNvml(cards[1]), environ={}, cuda_build=lambda: "13.0")
    assert gpu.choose_device("GPU-a", nvml=FakeNvml(*cards), environ={}, cuda_build=lambda: "13.0").uuid == "GPU-a"


_WATCH_A_DRIVER_THAT_HANGS = """
import threading, time
from pipeline.system import gpu
from humigence_tui.background.machine import MachineWatch
asked = threading.Event()
def hang():
    asked.set()
    time.sleep(1e6)
gpu.survey = hang
watch = MachineWatch(print)
watch.start()
asked.wait()
watch.close()
print("closed", watch.is_alive())
"""


@survives(
    "machine",
    "the driver of a lost GPU never answers",
    "while the panel asks it, and the app is closed",
    "the app closes all the same",
)
def test_a_driver_that_hangs_keeps_no_app_from_ending() -> None:
    assert python(_WATCH_A_DRIVER_THAT_HANGS).stdout.split() == ["closed", "True"]


# ----------------------------------------------------------------------------------------------------------- disks


@survives(
    "machine",
    "the workspace is on a file system that is mounted read-only",
    "at a start; when runs are looked at",
    "the start ends with words (exit 4); past runs are listed, shown and told alive or not",
)
def test_a_read_only_disk_refuses_a_start_and_still_shows_its_runs(disk: Disk, workers: Workers, tiny_model: Path) -> None:
    project = Project(disk.path, tiny_model, workers)
    assert project.to_its_end(until="preprocess") == 0
    disk.make_read_only()
    with pytest.raises(EnvironmentFault, match="read-only"):
        project.start()
    state, _ = fold_cache.read_folded(project.run)
    assert control.status_of(project.run, state) == "finished"
    assert fold_cache.read_summary(project.run).status == "finished"
    assert not control.is_alive(project.run)
    assert store.summary(project.run)["state"] == "finished"
    disk.make_read_only(yes=False)
    assert project.to_its_end(until="preprocess") == 0


@survives(
    "machine",
    "`runs` is a link to another disk",
    "from the start to the package, and when runs are removed",
    "rows, package and base model are those of the workspace; a run that a package was made from stays",
)
def test_runs_may_lie_on_another_disk(tmp_path: Path, tiny_model: Path, workers: Workers) -> None:
    project = Project(tmp_path / "work", tiny_model, workers, train={"max_steps": 2})
    (tmp_path / "other disk").mkdir()
    (project.root / "runs").symlink_to(tmp_path / "other disk")
    assert project.to_its_end() in (0, 3)
    assert (project.root / "artifacts" / "tiny" / "humigence.json").is_file()
    assert (project.root / "data" / "processed").is_dir()
    assert [path.name for path in tmp_path.iterdir() if path.name in ("artifacts", "data")] == []
    assert retention.plan(project.workspace, keep=0).remove == ()
    real = tmp_path / "other disk" / "tiny" / project.run.run_id
    assert store.find_run(project.workspace, str(real)) == project.run


_OPEN_A_LONG_LOG = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (768 << 20, 768 << 20))
from pathlib import Path
from pipeline.runs import event_log; from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder
run = RunFolder(Path(sys.argv[1]))
writer = EventWriter(run)
writer.emit(ev.Note("after"))
state = event_log.read_state(run)
print(writer.seq, state.last_seq, state.step, event_log.newest_seq(run))
"""


@survives(
    "machine",
    "a log that has grown to gigabytes, one line of it a gigabyte of damage",
    "in the middle of the log, at its end",
    "it is gone on with and read in less memory than that; every event before and after the damage counts",
)
@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_log_of_gigabytes_is_read_in_bounded_memory(run: RunFolder, where: str) -> None:
    _written(run, _STARTED, ev.StepStarted("train"), _step(1))
    with run.events.open("r+b") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
        if where == "middle":
            file.write(to_line(Envelope(4, 1e9, 1, _step(2))).encode() + b"\n")
    done = python(_OPEN_A_LONG_LOG, run.path)
    assert done.returncode == 0, done.stderr[-500:]
    last = 5 if where == "middle" else 4
    assert done.stdout.split() == [str(last), str(last), "2" if where == "middle" else "1", str(last)]


# ---------------------------------------------------------------------------------------------------------- another


@survives(
    "machine",
    "lock files of a machine that was rebooted, the pid in its log now somebody else's",
    "at a look, at the next start",
    "the run shows as crashed and resumes: a lock is the kernel's, not a file's",
)
def test_the_locks_of_a_rebooted_machine_hold_nobody(project: Project, untroubled: dict[str, Any]) -> None:
    project.to_its_end(when("train_step", step=5) | {"do": "signal", "signal": signal.SIGKILL})
    log = project.run.events
    log.write_text(log.read_text().replace(f'"pid":{project.state.pid},', f'"pid":{os.getpid()},'))
    for lock in (project.run.lock, project.workspace.project_lock("tiny"), project.workspace.start_lock("tiny")):
        lock.write_text(f"{os.getpid()}\n")
    assert control.status_of(project.run, project.state) == "crashed"
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "machine",
    "the workspace is copied to another machine: another path, another GPU in its config",
    "in the middle of training",
    "the copy resumes there, on the device chosen there, to the bits of an untroubled run",
)
def test_a_run_copied_to_another_machine_resumes_there(project: Project, tmp_path: Path, untroubled: dict[str, Any]) -> None:
    project.to_its_end(when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM})
    before = {path: path.read_bytes() for path in project.run.path.rglob("*") if path.is_file()}
    copy = tmp_path / "somewhere" / "else"
    shutil.copytree(project.root / "runs", copy / "runs")
    shutil.copytree(project.root / "data", copy / "data")
    old, new = project.run, RunFolder(copy / "runs" / "tiny" / project.run.run_id)
    text = new.config.read_text()
    assert '"gpu": "cpu"' in text
    new.config.write_text(text.replace('"gpu": "cpu"', '"gpu": "GPU-01234567-89ab-cdef-0123-456789abcdef"'))
    project.move_to(copy)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled
    assert {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()} == before, "the original is untouched"


# ----------------------------------------------------------------------------------------------------------- people


@survives(
    "people",
    "the data file is edited",
    "between preprocess and train, while it trains, before a resume",
    "the run stays with the rows it began with and says so; it ends as an untroubled one",
)
def test_an_edited_data_file_changes_nothing_in_a_run_that_began(project: Project, untroubled: dict[str, Any]) -> None:
    whole = project.rows.read_text()
    edited = whole.replace("after one", "before one")
    assert edited != whole and len(edited) != len(whole)
    project.start(
        when("step_finished", step="preprocess") | {"do": "signal", "signal": signal.SIGSTOP},
        when("train_step", step=8) | {"do": "signal", "signal": signal.SIGTERM},
    )
    project.workers.see_it_stop()
    project.rows.write_text(edited)
    project.workers.go_on()
    assert project.workers.exit_status() == 130
    assert "has changed since the run began" not in project.notes()
    assert project.to_its_end(resume=True) in (0, 3)
    assert "has changed since the run began: it goes on with the rows as they were prepared then" in project.notes()
    assert project.left_behind() == untroubled


@survives(
    "people",
    "the data file is edited, and the rows prepared from it are deleted",
    "before a resume",
    "refused (exit 2) with what to do: the run never goes on with other rows; put back, it ends as an untroubled one",
)
def test_a_run_never_goes_on_with_other_rows(project: Project, untroubled: dict[str, Any]) -> None:
    project.to_its_end(when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM})
    whole = project.rows.read_text()
    project.rows.write_text(whole.replace("after one", "before one"))
    shutil.rmtree(project.root / "data" / "processed")
    assert project.to_its_end(resume=True) == 2
    assert "put the file back" in project.state.error.hint
    assert list((project.root / "data" / "processed").glob("*")) == []
    project.rows.write_text(whole)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "people",
    "the config is edited, the run's own copy of it too",
    "while preparing, while it trains; the person's before a resume",
    "the run keeps the one it began with",
)
def test_an_edited_config_changes_nothing_in_a_run_that_began(project: Project, untroubled: dict[str, Any]) -> None:
    train = project.config.train.model_copy(update={"lr": 0.5})
    edited = project.config.model_copy(update={"train": train, "seed": 99})
    stops = [when("step_started", step="preprocess"), when("train_step", step=4)]
    project.start(
        *(moment | {"do": "signal", "signal": signal.SIGSTOP} for moment in stops),
        when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM},
    )
    own = project.run.config.read_bytes()
    for _ in stops:
        project.workers.see_it_stop()
        write_json(project.run.config, edited.to_json())
        project.workers.go_on()
    assert project.workers.exit_status() == 130
    project.run.config.write_bytes(own)
    project.config = edited
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled
