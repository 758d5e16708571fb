"""Whole workers: killed, stopped, gone wrong at several moments, and gone on with to the bits of an untroubled run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import EnvironmentFault
from pipeline.runner import launch
from pipeline.runs import control, store
from pipeline.runs.event_log import EventReader
from pipeline.runs.events import Resumed
from tests.faults.declared import survives
from tests.faults.workers import Project, Workers, when

pytestmark = pytest.mark.slow

_BEFORE_THE_FIRST_CHECKPOINT = [when("step_started", step="preprocess"), when("train_step", step=2), {"in_save": 3}]
_LATER = [when("train_step", step=8), when("evaluated", step=9), {"in_save": 12}, when("checkpoint_saved", step=15)]
# A stop saves the step that is on: the moments lie further on each time.
_TO_STOP = [when("step_started", step="preprocess"), when("train_step", step=2), {"in_save": 6}]
_TO_STOP_LATER = [when("train_step", step=8), when("evaluated", step=12), {"in_save": 15}, when("checkpoint_saved", step=18)]
_AT_THE_END = [when("train_ended"), when("step_started", step="evaluate"), {"in_pack": True}, when("step_finished", step="gates")]
_MOMENTS = "while preparing, before and while the first checkpoint is saved, between two, at an evaluation, in a later save, "


def _resumed_from(project: Project) -> list[int]:
    return [each.event.from_step for each in EventReader(project.run).read() if isinstance(each.event, Resumed)]


@survives(
    "death",
    "kill -9 of the worker, eleven times in one run",
    _MOMENTS + "right after one, at the end of training, in evaluation, in packing, before the last event",
    "the run shows as crashed at once and resumes from the newest checkpoint; weights, optimizer and curves end as untroubled",
)
def test_killed_at_eleven_moments_and_resumed_the_run_ends_as_an_untroubled_one(
    project: Project, untroubled: dict[str, Any]
) -> None:
    for number, moment in enumerate([*_BEFORE_THE_FIRST_CHECKPOINT, *_LATER, *_AT_THE_END]):
        died = project.to_its_end(moment | {"do": "signal", "signal": signal.SIGKILL}, resume=number > 0)
        assert died == -signal.SIGKILL, moment
        assert control.status_of(project.run, project.state) == "crashed"
    assert project.to_its_end(resume=True) in (0, 3)
    assert _resumed_from(project)[:6] == [0, 0, 6, 6, 9, 15]
    assert project.left_behind() == untroubled
    assert len(store.runs_of(project.workspace)) == 1
    assert not list(project.root.rglob("*.tmp")), "nothing half written is left"


@survives(
    "death",
    "SIGTERM and SIGINT of the worker in turn, nine times in one run",
    _MOMENTS + "right after one, at the end of training, in evaluation",
    "exit 130; in training after a whole checkpoint of the step that was on; resumed to the bits of an untroubled run",
)
def test_asked_to_stop_by_signals_at_nine_moments_the_run_ends_as_an_untroubled_one(
    project: Project, untroubled: dict[str, Any]
) -> None:
    for number, moment in enumerate([*_TO_STOP, *_TO_STOP_LATER, *_AT_THE_END[:2]]):
        asked = (signal.SIGTERM, signal.SIGINT)[number % 2]
        assert project.to_its_end(moment | {"do": "signal", "signal": asked}, resume=number > 0) == 130, moment
        assert project.state.status == "stopped"
        if project.state.current is None and project.state.step:
            assert project.state.saved_step == project.state.step, "nothing that was trained is lost"
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "death",
    "SIGHUP of the worker (the terminal is gone)",
    "while preparing, in training, in a save, in evaluation",
    "nothing happens: the run ends as an untroubled one",
)
def test_a_hangup_changes_nothing(project: Project, untroubled: dict[str, Any]) -> None:
    hangups = [when("step_started", step="preprocess"), when("train_step", step=4), {"in_save": 6}, _AT_THE_END[1]]
    assert project.to_its_end(*(moment | {"do": "signal", "signal": signal.SIGHUP} for moment in hangups)) in (0, 3)
    assert project.state.attempt == 1
    assert project.left_behind() == untroubled


@survives(
    "death",
    "two signals in a row",
    "in training, in a save",
    "the run aborts at once, exit 130; the checkpoints before stay whole, and it resumes from them",
)
def test_two_signals_abort_and_what_was_saved_stays(project: Project, untroubled: dict[str, Any]) -> None:
    for number, moment in enumerate([when("train_step", step=5), {"in_save": 6}]):
        both = [moment | {"do": "signal", "signal": each} for each in (signal.SIGTERM, signal.SIGINT)]
        assert project.to_its_end(*both, resume=number > 0) == 130
        assert (project.state.status, project.state.saved_step) == ("stopped", 3)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


# ----------------------------------------------------------------------------------------------------- checkpoints


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


_DAMAGES = [
    ("adapter_model.safetensors", _cut), ("adapter_model.safetensors", _flip), ("optimizer.safetensors", Path.unlink),
    ("optimizer.safetensors", _flip), ("scheduler.json", Path.unlink), ("rng.safetensors", _flip), ("manifest.json", _cut),
]  # fmt: skip


@survives(
    "checkpoints",
    "the newest checkpoint is cut short, bit-flipped, or lacks optimizer, schedule, random state or manifest",
    "seven times in one run, each time before a resume",
    "the newest whole one is taken, the run says which was damaged and how, and ends as an untroubled one",
)
def test_a_damaged_checkpoint_is_passed_over_and_named(project: Project, untroubled: dict[str, Any]) -> None:
    for number, (name, damage) in enumerate(_DAMAGES):
        step = 7 + number
        project.to_its_end(when("train_step", step=step) | {"do": "signal", "signal": signal.SIGTERM}, resume=number > 0)
        newest = max(project.run.checkpoints.glob("step-*"))
        assert newest.name == f"step-{step + 1:06d}"
        damage(newest / name)
    assert project.to_its_end(resume=True) in (0, 3)
    said = [note for note in project.notes().splitlines() if "is damaged" in note]
    assert len(said) == len(_DAMAGES)
    assert all(name in line or "manifest" in line for (name, _), line in zip(_DAMAGES, said, strict=True)), said
    assert project.left_behind() == untroubled


@survives(
    "checkpoints",
    "every checkpoint is damaged",
    "before a resume",
    "training begins again and says so; it ends as an untroubled one",
)
def test_without_a_whole_checkpoint_training_begins_again(project: Project, untroubled: dict[str, Any]) -> None:
    project.to_its_end(when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM})
    for folder in project.run.checkpoints.glob("step-*"):
        _flip(folder / "optimizer.safetensors")
    assert project.to_its_end(resume=True) in (0, 3)
    assert "no whole checkpoint to go on from: training begins again" in project.notes()
    assert project.left_behind() == untroubled


# ------------------------------------------------------------------------------------------------ training goes wrong


@survives(
    "training",
    "the loss or a gradient is no number (a learning rate far too high; weights that are NaN)",
    "in the course of training; at the first step",
    "exit 3, the step and the remedy are told, and no checkpoint holds the damage",
)
@pytest.mark.parametrize("moment", ["later", "first step"])
def test_a_loss_that_is_no_number_ends_training_and_spoils_no_checkpoint(
    tmp_path: Path, tiny_model: Path, workers: Workers, moment: str
) -> None:
    if moment == "first step":
        tiny_model = _with_nan_weights(tiny_model, tmp_path / "model")
    project = Project(tmp_path / "work", tiny_model, workers, train={"max_steps": 20})
    fault = [] if moment == "first step" else [when("train_step", step=7) | {"do": "spoil_the_weights"}]
    assert project.to_its_end(*fault) == 3
    state = project.state
    assert state.diverged is not None and "train.lr" in state.error.hint
    assert state.diverged.step == (1 if moment == "first step" else 8)
    saved = [path.name for path in project.run.checkpoints.glob("step-*")] if project.run.checkpoints.exists() else []
    assert saved == ([] if moment == "first step" else ["step-000002", "step-000004", "step-000006"][-len(saved) :])


def _with_nan_weights(model: Path, to: Path) -> Path:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(model, to)
    weights = load_file(to / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    return to


@survives(
    "training",
    "the GPU vanishes (its library's error, raised in the worker)",
    "in training, in a save, in evaluation",
    "exit 4, told as the machine's fault and not as a bug; resumed to the bits of an untroubled run",
)
def test_a_gpu_that_vanishes_is_the_machines_fault_and_the_run_resumes(project: Project, untroubled: dict[str, Any]) -> None:
    for number, moment in enumerate([when("train_step", step=4), {"in_save": 6}, when("step_started", step="evaluate")]):
        assert project.to_its_end(moment | {"do": "lose_the_gpu"}, resume=number > 0) == 4
        error = project.state.error
        assert error is not None and error.message.startswith("the GPU failed: CUDA error") and "resume" in error.hint
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "training",
    "memory runs out once",
    "while the model is loaded, at the first step, in a held-out evaluation, while an answer is generated",
    "the same is done with less at once, or again, or a sample is left out; every step is trained and the run ends",
)
@pytest.mark.parametrize("place", ["load", "backward", "held-out", "sample"])
def test_memory_that_runs_out_once_is_survived(tmp_path: Path, tiny_model: Path, workers: Workers, place: str) -> None:
    project = Project(tmp_path, tiny_model, workers, train={"max_steps": 4}, eval={"samples_per_eval": 1})
    assert project.to_its_end({"short_of_memory_at": place, "times": 1}, until="evaluate") == 0
    assert list(project.state.train["step"]) == [1, 2, 3, 4]
    assert project.state.steps["evaluate"].outcome == "done"


@survives(
    "training",
    "memory runs out for good",
    "while the model is loaded, at the first step",
    "exit 4 with what to change, no traceback and no bug; with more memory the same run resumes and ends as an untroubled one",
)
@pytest.mark.parametrize("place", ["load", "forward"])
def test_memory_that_never_suffices_is_told_with_what_to_change(project: Project, untroubled: dict[str, Any], place: str) -> None:
    assert project.to_its_end({"short_of_memory_at": place, "times": 10**6}) == 4
    error = project.state.error
    assert error is not None and "memory" in error.message and error.hint
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


# -------------------------------------------------------------------------------------------------- two at a time


@survives(
    "people",
    "two workers in one run folder, two runs in one project",
    "while the first trains",
    "the second is refused (exit 4) and names the process; the first ends as an untroubled one",
)
def test_a_second_worker_in_the_folder_is_refused(project: Project, untroubled: dict[str, Any]) -> None:
    project.start(when("train_step", step=3) | {"do": "signal", "signal": signal.SIGSTOP})
    first = project.workers.pid
    project.workers.see_it_stop()
    with pytest.raises(EnvironmentFault, match=f"busy.*{first}"):
        project.start()
    # Past every check of a start: the worker itself finds the folder taken.
    launch.spawn_worker(project.workspace, project.run)
    assert project.workers.exit_status() == 4
    _goes_on_to_its_end(project, first, untroubled)


def _goes_on_to_its_end(project: Project, stopped: int, untroubled: dict[str, Any]) -> None:
    project.workers.pid = stopped
    project.workers.go_on()
    assert project.workers.exit_status() in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "people",
    "the lock files are deleted as if they were stale",
    "while a run is on, before a start and a resume",
    "the second process finds the log in use and is refused (exit 4); the first ends as an untroubled one",
)
def test_deleted_lock_files_let_no_second_worker_in(project: Project, untroubled: dict[str, Any]) -> None:
    project.start(when("train_step", step=3) | {"do": "signal", "signal": signal.SIGSTOP})
    first, run = project.workers.pid, project.run
    project.workers.see_it_stop()
    for lock in project.root.rglob(".*lock"):
        lock.unlink()
    before = run.events.read_bytes()
    assert project.to_its_end(resume=True) == 4
    assert "another process writes its log" in run.output_log.read_text()
    assert run.events.read_bytes() == before
    _goes_on_to_its_end(project, first, untroubled)


@survives(
    "people",
    "the folder of a run is deleted, or moved away",
    "while it trains",
    "exit 4, told as that and not as a bug; nothing is made in its place; moved back, it ends as an untroubled one",
)
def test_a_run_folder_that_is_taken_away_is_told(project: Project, untroubled: dict[str, Any]) -> None:
    project.start(when("train_step", step=4) | {"do": "signal", "signal": signal.SIGSTOP})
    project.workers.see_it_stop()
    run = project.run
    away = run.path.rename(project.root / "away")
    project.workers.go_on()
    assert project.workers.exit_status() == 4
    assert not run.path.exists()
    assert "the folder of the run was deleted while it was on" in (away / "events.jsonl").read_text()
    away.rename(run.path)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled
