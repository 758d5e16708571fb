"""Memory that runs out while training, at every step and place: the run goes on, and comes out as if it had not happened."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.common.errors import EnvironmentFault, Stopped
from pipeline.common.files import read_json, sha256_file
from pipeline.planning.proved import libraries
from pipeline.runs.event_log import read_state
from pipeline.runs.events import CheckpointSaved, Evaluated, Event, MemoryRanOut, Note, Sampled, TrainStep
from pipeline.runs.folders import ADAPTER_WEIGHTS
from pipeline.training.checkpointing import contents as checkpoints
from pipeline.training.recorder import Recorder
from tests import tiny
from tests.pipeline.training.shortage import ERRORS, Decide, Place, once, room_for, shortage
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for, prompts_file, stop_at

# 32 bits and no dropout, so that a step in parts is the step to rounding; see `test_halving` for why.
PLAIN = {"train__lora__dropout": 0.0, "train__precision_mode": "lora_bf16", "train__lr": 1e-3, "eval__max_new_tokens": 4}
# Four steps of seven micro-batches, an evaluation after the second and the last; proved, so that the places are the training's.
PLAN = {"epochs": 1, "eval_every_steps": 2, "proved": {"libraries": libraries()}}


def nothing(*_: object) -> None:
    """Memory never runs out."""


def training(
    root: Path, model: Path, stop_after: int | None = None, kernels: str = "plain", **changes: Any
) -> tuple[TinyRun, MadeUpData, Any]:
    root.mkdir(parents=True, exist_ok=True)
    # The fused layers compute in the type that 16-bit weights are held in; those of 4 bits they bring into any.
    weights = {"train__precision_mode": "qlora_nf4"} if kernels == "fused" else {}
    config = config_for(model, eval__curated_prompts_path=prompts_file(root), **(PLAIN | weights | changes))
    watch, stop = stop_at(stop_after or 10**6)
    run = TinyRun(root, config, stop)
    emit = run.ctx.emit

    def emit_and_watch(event: Event) -> None:
        emit(event)
        watch(event)

    run.ctx = replace(run.ctx, emit=emit_and_watch)
    data = MadeUpData()
    return run, data, plan_for(config, data, kernels=kernels, **PLAN)


def trained(root: Path, model: Path, decide: Decide = nothing, *, resume: bool = False, **changes: Any) -> TinyRun:
    run, data, plan = training(root, model, **changes)
    with shortage(decide) as happened:
        run.train(data, plan, resume=resume)
    run.happened = happened  # type: ignore[attr-defined]
    return run


def newest(run: TinyRun) -> Path:
    return max(run.folder.checkpoints.glob("step-*"))


def assert_same(run: TinyRun, other: TinyRun) -> None:
    """Steps, losses, held-out losses, samples and weights, but for the order in which floats were added up."""
    pairs = zip(run.of(TrainStep), other.of(TrainStep), strict=True)
    for step, wanted in pairs:
        assert (step.step, step.total_steps, step.tokens, step.trained_tokens, step.lr) == (
            wanted.step, wanted.total_steps, wanted.tokens, wanted.trained_tokens, wanted.lr,
        )  # fmt: skip
        assert (step.loss, step.grad_norm) == pytest.approx((wanted.loss, wanted.grad_norm), rel=1e-5)
    held_out, wanted_held_out = ([each.loss for each in one.of(Evaluated)] for one in (run, other))
    assert held_out == pytest.approx(wanted_held_out, rel=1e-5)
    weights, wanted_weights = (load_file(newest(one) / ADAPTER_WEIGHTS) for one in (run, other))
    for name, tensor in weights.items():
        assert (tensor - wanted_weights[name]).abs().max() < 1e-5, name


@pytest.fixture(scope="module")
def untroubled(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> TinyRun:
    with pytest.MonkeyPatch.context() as patched:
        root = tmp_path_factory.mktemp("untroubled")
        patched.chdir(root)
        return trained(root, tiny_model)


@pytest.fixture(scope="module")
def untroubled_fused(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> TinyRun:
    with pytest.MonkeyPatch.context() as patched:
        root = tmp_path_factory.mktemp("untroubled-fused")
        patched.chdir(root)
        return trained(root, tiny_model, kernels="fused")


def at_every_place(number: int) -> Decide:
    """Memory runs out the `number`th time that each of the places is passed, with another error each time."""
    places: tuple[Place, ...] = ("forward", "backward", "optimizer", "held-out", "sample")
    singles = [once(place, number, ERRORS[(number + index) % len(ERRORS)]) for index, place in enumerate(places)]

    def decide(here: Place, tokens: int, recomputed: bool) -> Exception | None:
        told = [single(here, tokens, recomputed) for single in singles]
        return next(filter(None, told), None)

    return decide


@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_at_whatever_step_and_place_memory_runs_out_the_training_is_the_same(
    root: Path, tiny_model: Path, untroubled: TinyRun, untroubled_fused: TinyRun, kernels: str
) -> None:
    wanted = untroubled if kernels == "plain" else untroubled_fused
    seen = {"forward": 0, "backward": 0, "optimizer": 0, "held-out": 0, "sample": 0}
    for number in count():
        run = trained(root / str(number), tiny_model, at_every_place(number), kernels=kernels)
        for place in run.happened:  # type: ignore[attr-defined]
            seen[place] += 1
        assert_same(run, wanted)
        assert [each.answer for each in run.of(Sampled)] == [each.answer for each in wanted.of(Sampled)]
        told = [event for event in run.of(MemoryRanOut) if event.place != "samples"]
        assert len(told) == sum(place != "sample" for place in run.happened)  # type: ignore[attr-defined]
        if not run.happened:  # type: ignore[attr-defined]
            break
    assert seen["forward"] >= 7 and seen["backward"] >= 7 and seen["optimizer"] == 4 and seen["held-out"] >= 2
    assert seen["sample"] >= 2


@pytest.mark.parametrize("most", [50, 40, 20])
def test_with_too_little_memory_all_along_it_learns_once_and_the_loss_stays(
    root: Path, tiny_model: Path, untroubled: TinyRun, most: int
) -> None:
    """Room for a row, for a document, and for no document unless activations are recomputed."""
    run = trained(root, tiny_model, room_for(most, places=("backward", "held-out"), recomputed=60))
    assert_same(run, untroubled)
    told = run.of(MemoryRanOut)
    assert 1 <= len(run.happened) <= 8  # type: ignore[attr-defined]
    assert any(event.answer == "recompute activations" for event in told) == (most == 20)
    state = read_state(run.folder)
    assert state.memory_ran_out == told and state.step == 4
    limits = read_json(newest(run) / "progress.json")["limits"]
    assert limits["checkpointing"] == (most == 20)
    assert limits["train_tokens"] is None or limits["train_tokens"] <= (60 if most == 20 else most)


@pytest.mark.parametrize("recomputed", [True, False])
def test_a_document_that_is_tried_again_draws_the_dropout_it_would_have_drawn(
    root: Path, tiny_model: Path, recomputed: bool
) -> None:
    """One document a micro-batch, so nothing is halved: as it is, or with its activations recomputed, the bits are the same."""
    adapters = []
    for name, decide in (("roomy", nothing), ("short", once("backward", 5, ERRORS[0]))):
        run, data, plan = training(root / name, tiny_model, train__lora__dropout=0.3, data__packing=False)
        alone = replace(plan, micro_batch=1, accumulation=8, gradient_checkpointing=recomputed, total_steps=3, steps_per_epoch=3)
        with shortage(decide):
            run.train(data, alone)
        adapters.append(sha256_file(newest(run) / ADAPTER_WEIGHTS))
        answer = "done again" if recomputed else "recompute activations"
        assert [event.answer for event in run.of(MemoryRanOut)] == ([answer] if name == "short" else [])
    assert adapters[0] == adapters[1]


def test_the_time_of_a_step_that_ran_out_of_memory_is_no_measure(root: Path, tiny_model: Path, untroubled: TinyRun) -> None:
    run = trained(root, tiny_model, once("optimizer", 1, ERRORS[0]))
    assert [step.counted for step in untroubled.of(TrainStep)] == [False, True, True, False]
    assert [step.counted for step in run.of(TrainStep)] == [False, False, True, False]


def test_a_resume_uses_the_limit_that_was_learned(root: Path, tiny_model: Path, untroubled: TinyRun) -> None:
    """It never runs out again, and leaves the bits of a run that was not interrupted."""
    short = room_for(50)
    whole = trained(root / "whole", tiny_model, short)
    run, data, plan = training(root / "stopped", tiny_model, stop_after=1)
    with shortage(short), pytest.raises(Stopped):
        run.train(data, plan)
    assert run.of(MemoryRanOut)
    again = trained(root / "stopped", tiny_model, short, resume=True)
    assert not again.happened and not again.of(MemoryRanOut)  # type: ignore[attr-defined]
    limit = run.of(MemoryRanOut)[-1].limit
    assert [note.text for note in again.of(Note)] == [f"memory ran out before: going on with at most {limit} tokens at once"]
    assert sha256_file(newest(again) / ADAPTER_WEIGHTS) == sha256_file(newest(whole) / ADAPTER_WEIGHTS)


def from_the(number: int, place: Place) -> Decide:
    """No memory at all from the `number`th time on that `place` is passed."""
    passed, gone = -1, False

    def decide(here: Place, _tokens: int, _recomputed: bool) -> Exception | None:
        nonlocal passed, gone
        passed += here == place
        gone = gone or passed == number
        return ERRORS[0]() if gone and here == place else None

    return decide


@pytest.mark.parametrize(("place", "number"), [("forward", 4), ("backward", 5), ("optimizer", 2), ("held-out", 3)])
def test_with_no_memory_left_what_is_done_is_saved_and_the_setting_named(
    root: Path, tiny_model: Path, untroubled: TinyRun, place: Place, number: int
) -> None:
    run, data, plan = training(root, tiny_model)
    with shortage(from_the(number, place)), pytest.raises(EnvironmentFault) as caught:
        run.train(data, plan)
    done = run.of(TrainStep)[-1].step
    assert caught.value.exit_code == 4
    assert f"memory ran out after {done} optimizer steps" in caught.value.message
    assert "humigence config set" in caught.value.hint and f"step {done} is saved" in caught.value.hint
    assert run.of(CheckpointSaved)[-1].step == done
    again = trained(root, tiny_model, resume=True)
    state = read_state(again.folder)
    assert list(state.train["step"]) == [1, 2, 3, 4]
    assert list(state.train["loss"]) == pytest.approx([step.loss for step in untroubled.of(TrainStep)], rel=1e-5)
    weights, wanted = (load_file(newest(one) / ADAPTER_WEIGHTS) for one in (again, untroubled))
    assert all((weights[name] - wanted[name]).abs().max() < 1e-5 for name in wanted)


def test_a_resume_that_finds_no_room_for_its_checkpoint_keeps_it(
    root: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data, plan = training(root, tiny_model, stop_after=1)
    with pytest.raises(Stopped):
        run.train(data, plan)

    def no_room(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "read_optimizer", no_room)
        again, data, plan = training(root, tiny_model)
        with pytest.raises(EnvironmentFault, match="memory ran out after 2 optimizer steps: MemoryError") as caught:
            again.train(data, plan, resume=True)
    assert "step 2 is saved" in caught.value.hint
    assert trained(root, tiny_model, resume=True).of(TrainStep)[0].step == 3


@pytest.mark.parametrize("place", ["forward", "optimizer"])
def test_what_is_saved_then_is_what_a_stop_after_that_step_saves(root: Path, tiny_model: Path, place: Place) -> None:
    """Every file of it, random generators included, though the step after had begun to draw its dropout."""
    dropout = {"train__lora__dropout": 0.3, "train__gradient_checkpointing": True, "data__packing": False}
    run, data, plan = training(root / "short", tiny_model, **dropout)
    one_document = replace(plan, micro_batch=1, accumulation=4, gradient_checkpointing=True, eval_every_steps=100)

    # How often a layer's forward is passed in a step differs among versions of transformers that recompute it.
    def after_two_steps(here: Place, _tokens: int, _recomputed: bool) -> Exception | None:
        return ERRORS[0]() if here == place and len(run.of(TrainStep)) == 2 else None

    with shortage(after_two_steps if place == "forward" else from_the(2, place)), pytest.raises(EnvironmentFault):
        run.train(data, one_document)
    stopped, data, _ = training(root / "stopped", tiny_model, stop_after=1, **dropout)
    with pytest.raises(Stopped):
        stopped.train(data, one_document)
    assert newest(run).name == newest(stopped).name == "step-000002"
    for name in (ADAPTER_WEIGHTS, "rng.safetensors", "rng.json", "scheduler.json", "trainer_state.json"):
        assert sha256_file(newest(run) / name) == sha256_file(newest(stopped) / name), name
    if place == "forward":
        assert sha256_file(newest(run) / "optimizer.safetensors") == sha256_file(newest(stopped) / "optimizer.safetensors")


def test_memory_that_the_system_really_refuses_changes_no_loss(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32,000 logits a token: 1,536 tokens at once take most of a GiB, and there are 400 MiB more than before the first step."""
    model = tiny.save_model(root / "wide", vocab_size=32_000)
    curves, told = [], list[MemoryRanOut]()
    for room_bytes in (None, 400 << 20):
        config = config_for(model, eval__samples_per_eval=0, **PLAIN)
        run, data = TinyRun(root / str(room_bytes), config), MadeUpData(train=70, val=8)
        plan = plan_for(config, data, epochs=1, eval_every_steps=2, micro_batch=32, accumulation=1)
        with monkeypatch.context() as patched:
            if room_bytes:
                patched.setattr(Recorder, "start", then(Recorder.start, lambda room=room_bytes: allow_no_more_than(room)))
            try:
                run.train(data, plan)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, _NO_LIMIT)
        curves.append([*((step.loss, step.grad_norm) for step in run.of(TrainStep)), *((e.loss, 0) for e in run.of(Evaluated))])
        told += run.of(MemoryRanOut)
    assert told[0].tokens == 1_536 and told[0].answer == "smaller pieces"
    for short, roomy in zip(*curves, strict=True):
        assert short == pytest.approx(roomy, rel=1e-5)


_NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def allow_no_more_than(more_bytes: int) -> None:
    """Address space beyond what this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, resource.RLIM_INFINITY))


def then(first: Callable[..., None], second: Callable[[], None]) -> Callable[..., None]:
    def both(*arguments: Any) -> None:
        first(*arguments)
        second()

    return both


def test_samples_without_room_for_one_answer_are_left_out_and_the_training_goes_on(
    root: Path, tiny_model: Path, untroubled: TinyRun
) -> None:
    run = trained(root, tiny_model, room_for(0, places=("sample",)))
    assert not run.of(Sampled)
    assert [(event.step, event.place, event.answer) for event in run.of(MemoryRanOut)] == [
        (step, "samples", "left out") for step in (2, 4)
    ]
    assert_same(run, untroubled)


def test_an_error_that_is_not_about_memory_is_not_tried_again(root: Path, tiny_model: Path) -> None:
    def broken(here: Place, *_: object) -> Exception | None:
        return RuntimeError("CUDA error: device-side assert triggered") if here == "backward" else None

    run, data, plan = training(root, tiny_model)
    with shortage(broken) as happened, pytest.raises(RuntimeError, match="device-side assert"):
        run.train(data, plan)
    assert happened == ["backward"] and not run.of(MemoryRanOut)


def test_a_step_that_is_undone_leaves_weights_moments_and_counts_as_they_were() -> None:
    from pipeline.training.memory_recovery.atomic_adamw import AtomicAdamW

    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 6)), torch.nn.Parameter(torch.ones(2, 3))]
    optimizer = AtomicAdamW(weights, lr=0.1)
    no_room: Callable[..., Decide] = lambda: lambda *_: ERRORS[0]()  # noqa: E731
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.5)
    with shortage(no_room()), pytest.raises(torch.OutOfMemoryError):
        optimizer.step()
    assert not optimizer.state and weights[1].equal(torch.ones(2, 3))
    optimizer.step()
    before = [value.clone() for state in optimizer.state.values() for value in state.values()]
    with shortage(no_room()), pytest.raises(torch.OutOfMemoryError):
        optimizer.step()
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert all(one.equal(other) for one, other in zip(before, after, strict=True))
