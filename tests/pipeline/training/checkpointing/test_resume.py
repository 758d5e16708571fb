"""A training that was stopped, killed or damaged, then resumed: the same bits as the untroubled one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.precision import compute_dtype
from pipeline.common.errors import Stopped
from pipeline.common.files import sha256_file
from pipeline.config.schema import Config
from pipeline.planning.plan import Plan
from pipeline.runs.event_log import EventReader, read_state
from pipeline.runs.events import CheckpointSaved, EarlyStopped, Event, Note, Resumed, TrainEnded, TrainStep
from pipeline.runs.folders import ADAPTER_WEIGHTS, RunFolder, Workspace
from pipeline.runs.store import runs_of
from pipeline.system.gpu import cpu_device
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, order_for, plan_for, prompts_file, stop_at
from tests.processes import IMPORT_PATH

EPOCH = 4  # optimizer steps, of 8; checkpoints after 3, 6 and 8


def _all(*case: Any) -> Any:
    """A moment like another one that `make test` has."""
    return pytest.param(*case, marks=pytest.mark.matrix)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Config, Plan]:
    """The shipped defaults: NF4, dropout, packing, early stopping, samples; computing in what a plan chooses here."""
    config = config_for(tiny_model, eval__curated_prompts_path=prompts_file(tmp_path_factory.mktemp("prompts")))
    assert config.train.lora.dropout == 0.05 and config.train.early_stopping.enabled and config.data.packing
    return config, plan_for(config, MadeUpData(), compute_dtype=compute_dtype("qlora_nf4", cpu_device()))


@pytest.fixture(scope="module")
def untroubled(tmp_path_factory: pytest.TempPathFactory, settings: tuple[Config, Plan]) -> dict[str, Any]:
    """What the training leaves behind when nothing happens to it."""
    run = TinyRun(tmp_path_factory.mktemp("untroubled"), settings[0])
    run.train(MadeUpData(), settings[1])
    return left_behind(run.folder)


def left_behind(folder: RunFolder) -> dict[str, Any]:
    """Adapter and optimizer hashes of the newest checkpoint, and the folded curves."""
    newest = max(folder.checkpoints.glob("step-*"))
    state = read_state(folder)
    columns = {name: list(state.train[name]) for name in ("step", "loss", "lr", "grad_norm", "tokens", "trained_tokens")}
    told = [envelope.event for envelope in EventReader(folder).read()]
    epochs = {event.step: event.epoch for event in told if isinstance(event, TrainStep)}  # as the newest attempt has told them
    columns["epoch"] = [epochs[step] for step in columns["step"]]
    held_out = {name: list(state.held_out[name]) for name in ("step", "loss")}
    hashes = {name: sha256_file(newest / name) for name in (ADAPTER_WEIGHTS, "optimizer.safetensors")}
    samples = [(sample.step, sample.prompt, sample.answer) for sample in state.samples]
    return {"hashes": hashes, "train": columns, "held_out": held_out, "samples": samples}


def stopped_at(root: Path, settings: tuple[Config, Plan], step: int, mode: Any = "save", resume: bool = False) -> TinyRun:
    """A training that the person stops after `step`."""
    config, plan = settings
    watch, stop = stop_at(step, mode)
    run = TinyRun(root, config, stop)
    emit = run.ctx.emit

    def emit_and_watch(event: Event) -> None:
        emit(event)
        watch(event)

    run.ctx = replace(run.ctx, emit=emit_and_watch)
    with pytest.raises(Stopped) as caught:
        run.train(MadeUpData(), plan, resume=resume)
    assert caught.value.exit_code == 130
    return run


def resumed(root: Path, settings: tuple[Config, Plan]) -> TinyRun:
    run = TinyRun(root, settings[0])
    run.train(MadeUpData(), settings[1], resume=True)
    return run


def in_a_process(root: Path, settings: tuple[Config, Plan], **more: Any) -> RunFolder:
    """A training in a process of its own, which kills itself with signal 9 where `more` says."""
    command = [sys.executable, "-m", "tests.pipeline.training.tiny_training", order_for(root, *settings, **more)]
    environment = os.environ | {"PYTHONPATH": IMPORT_PATH}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    return runs_of(Workspace(root))[0]


@pytest.mark.parametrize("step", [_all(2), EPOCH, _all(EPOCH + 1)])
def test_stopped_by_request_then_resumed_is_the_untroubled_training(
    root: Path, settings: tuple[Config, Plan], untroubled: dict[str, Any], step: int
) -> None:
    """In the middle of the first epoch, at its end, and in the second."""
    run = stopped_at(root, settings, step)
    assert [saved.step for saved in run.of(CheckpointSaved)][-1] == step + 1 == run.of(TrainStep)[-1].step
    again = resumed(root, settings)
    assert again.of(Resumed)[0].from_step == step + 1
    assert left_behind(again.folder) == untroubled


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "from_step"), [_all({"die_at_step": 5}, 3), ({"die_in_save": 6}, 3), _all({"die_at_step": 2}, 0)]
)
def test_killed_then_resumed_is_the_untroubled_training(
    root: Path, settings: tuple[Config, Plan], untroubled: dict[str, Any], more: dict[str, int], from_step: int
) -> None:
    """With signal 9, between checkpoints, while one is written, and before the first; each step is told once."""
    folder = in_a_process(root, settings, **more)
    steps_told = list(read_state(folder).train["step"])
    assert steps_told and steps_told[-1] > from_step
    again = resumed(root, settings)
    assert again.of(Resumed)[0].from_step == from_step
    assert left_behind(folder) == untroubled
    assert not list(folder.checkpoints.glob(".step-*"))


def test_a_damaged_checkpoint_is_passed_over_and_it_is_said(
    root: Path, settings: tuple[Config, Plan], untroubled: dict[str, Any]
) -> None:
    folder = stopped_at(root, settings, 5).folder
    (folder.checkpoints / "step-000006" / "optimizer.safetensors").unlink()
    again = resumed(root, settings)
    assert again.of(Resumed)[0].from_step == 3
    assert any("step-000006 is damaged (optimizer.safetensors is missing)" in note.text for note in again.of(Note))
    assert left_behind(folder) == untroubled


def test_a_run_resumed_twice_is_still_the_untroubled_one(
    root: Path, settings: tuple[Config, Plan], untroubled: dict[str, Any]
) -> None:
    stopped_at(root, settings, 1)
    stopped_at(root, settings, 5, resume=True)
    assert left_behind(resumed(root, settings).folder) == untroubled


def test_an_abort_saves_nothing_more(root: Path, settings: tuple[Config, Plan], untroubled: dict[str, Any]) -> None:
    run = stopped_at(root, settings, 4, "abort")
    assert [saved.step for saved in run.of(CheckpointSaved)] == [3]
    assert left_behind(resumed(root, settings).folder) == untroubled


def test_a_request_at_the_last_step_lets_the_training_end(root: Path, settings: tuple[Config, Plan]) -> None:
    config, plan = settings
    run = TinyRun(root, config)
    run.ctx = replace(run.ctx, stop=lambda: "save" if len(run.of(TrainStep)) >= 7 else None)
    assert run.train(MadeUpData(), plan)["ended"] == "complete"


def test_a_finished_training_resumed_only_tells_its_end(root: Path, settings: tuple[Config, Plan]) -> None:
    run = TinyRun(root, settings[0])
    first = run.train(MadeUpData(), settings[1])
    again = TinyRun(root, settings[0])
    assert again.train(MadeUpData(), settings[1], resume=True) == first
    assert not again.of(TrainStep) and len(again.of(TrainEnded)) == 1


def test_early_stopping_decides_the_same_after_a_resume(root: Path, settings: tuple[Config, Plan]) -> None:
    early = settings[0].train.early_stopping.model_copy(update={"patience": 2, "min_delta": 10.0})
    config = settings[0].model_copy(update={"train": settings[0].train.model_copy(update={"early_stopping": early})})
    plan = replace(settings[1], total_steps=24)
    stopped_at(root, (config, plan), 6)  # two of the three evaluations are done
    again = resumed(root, (config, plan))
    assert [stopped.step for stopped in again.of(EarlyStopped)] == [9]
    assert TinyRun(root, config).train(MadeUpData(), plan, resume=True)["ended"] == "early"
