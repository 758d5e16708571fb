"""Whole trainings of the tiny model: what a seed, a micro-batch, a sample and a precision mode change, and what they don't."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pipeline.common.errors import BadInput, Diverged
from pipeline.common.files import sha256_file
from pipeline.dataset.packing import pack
from pipeline.runs.events import (
    CheckpointSaved,
    EarlyStopped,
    Evaluated,
    Event,
    Note,
    Sampled,
    TrainEnded,
    TrainingDiverged,
    TrainStep,
)
from pipeline.runs.folders import ADAPTER_WEIGHTS
from pipeline.training.checkpointing.progress import Progress
from pipeline.training.held_out import HeldOutRows
from pipeline.training.packed_rows import EpochSampler
from pipeline.training.recorder import Recorder, StepDone
from tests.pipeline.training.tiny_training import ROW_TOKENS, MadeUpData, TinyRun, config_for, plan_for, prompts_file

WEIGHTS = (ADAPTER_WEIGHTS, "optimizer.safetensors")


def hashes(run: TinyRun) -> list[str]:
    """Of the adapter and the optimizer in the newest checkpoint."""
    newest = max(run.folder.checkpoints.glob("step-*"))
    return [sha256_file(newest / name) for name in WEIGHTS]


def curve(run: TinyRun) -> list[tuple[Any, ...]]:
    return [(e.step, e.epoch, e.loss, e.lr, e.grad_norm, e.tokens, e.trained_tokens) for e in run.of(TrainStep)]


def trained(
    root: Path, model: Path, data: MadeUpData | None = None, plan: dict[str, Any] | None = None, **changes: Any
) -> TinyRun:
    root.mkdir(parents=True, exist_ok=True)
    data = data or MadeUpData()
    changes = {"eval__curated_prompts_path": prompts_file(root)} | changes
    config = config_for(model, **changes)
    run = TinyRun(root, config)
    run.report = run.train(data, plan_for(config, data, **(plan or {})))  # type: ignore[attr-defined]
    return run


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path, tiny_model: Path) -> None:
    first, second = trained(tmp_path / "a", tiny_model), trained(tmp_path / "b", tiny_model)
    other = trained(tmp_path / "c", tiny_model, seed=7)
    assert hashes(first) == hashes(second) and curve(first) == curve(second)
    assert hashes(first) != hashes(other)
    assert len(first.of(Sampled)) == 3 * len(first.of(Evaluated)) == 9


def test_samples_change_no_curve(tmp_path: Path, tiny_model: Path) -> None:
    with_samples = trained(tmp_path / "a", tiny_model)
    without = trained(tmp_path / "b", tiny_model, eval__samples_per_eval=0)
    assert not without.of(Sampled)
    assert hashes(with_samples) == hashes(without) and curve(with_samples) == curve(without)


def test_evaluations_change_no_curve(tmp_path: Path, tiny_model: Path) -> None:
    often = trained(tmp_path / "a", tiny_model, plan={"eval_every_steps": 1}, train__early_stopping__enabled=False)
    seldom = trained(tmp_path / "b", tiny_model, plan={"eval_every_steps": 100})
    assert len(often.of(Evaluated)) == 8 and len(seldom.of(Evaluated)) == 1
    assert hashes(often) == hashes(seldom)


def test_micro_batch_times_accumulation_is_all_that_matters(tmp_path: Path, tiny_model: Path) -> None:
    """Uneven rows and a partial last window (13 rows), no dropout, 32 bits: the same weights, the same losses."""
    weights, curves = [], []
    for micro_batch, accumulation in ((1, 8), (2, 4), (8, 1)):
        plan = {"micro_batch": micro_batch, "accumulation": accumulation, "epochs": 3}
        changes = {"train__lora__dropout": 0.0, "train__precision_mode": "lora_bf16", "train__lr": 1e-3}
        run = trained(tmp_path / str(micro_batch), tiny_model, plan=plan, **changes)
        weights.append(load_file(max(run.folder.checkpoints.glob("step-*")) / ADAPTER_WEIGHTS))
        curves.append([(step.loss, step.grad_norm, step.tokens, step.trained_tokens) for step in run.of(TrainStep)])
    assert len(curves[0]) == 6
    for other, other_curve in zip(weights[1:], curves[1:], strict=True):
        for row, other_row in zip(curves[0], other_curve, strict=True):
            assert row == pytest.approx(other_row, rel=1e-5)
        for name, tensor in weights[0].items():
            assert (tensor - other[name]).abs().max() < 1e-5, name


def test_a_logged_loss_is_the_mean_over_the_trained_tokens_of_the_step(tmp_path: Path, tiny_model: Path) -> None:
    """Nothing learnt in the first step, so the untrained model's own mean over the same epoch is what must be logged."""
    data = MadeUpData(train=7)
    run = trained(
        tmp_path, tiny_model, data, {"micro_batch": 1, "accumulation": 100, "epochs": 1}, train__precision_mode="lora_bf16"
    )
    (step,) = run.of(TrainStep)
    assert step.trained_tokens == sum(sum(label >= 0 for label in labels) for labels in data.dataset("train")["labels"])
    assert step.tokens == data.lengths("train").sum()
    assert step.loss == pytest.approx(_untrained_loss(tiny_model, data), rel=1e-3)


def _untrained_loss(model_folder: Path, data: MadeUpData) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16).float()
    total, tokens = 0.0, 0
    for row in data.dataset("train"):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        trained_here = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=labels).loss) * trained_here
        tokens += trained_here
    return total / tokens


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["qlora_nf4", "lora_int8", "lora_bf16", "lora_fp16"])
def test_every_precision_mode_learns_on_the_cpu(tmp_path: Path, tiny_model: Path, mode: str, compute_dtype: str) -> None:
    changes: dict[str, Any] = {"train__precision_mode": mode, "eval__samples_per_eval": 0}
    run = trained(tmp_path, tiny_model, plan={"compute_dtype": compute_dtype}, **changes)
    losses = [step.loss for step in run.of(TrainStep)]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] - 0.1
    held_out = [evaluated.loss for evaluated in run.of(Evaluated)]
    assert held_out[-1] < held_out[0]


def test_recomputing_activations_changes_no_bits(tmp_path: Path, tiny_model: Path) -> None:
    plain = trained(tmp_path / "a", tiny_model, train__precision_mode="lora_bf16")
    recomputed = trained(tmp_path / "b", tiny_model, plan={"gradient_checkpointing": True}, train__precision_mode="lora_bf16")
    assert hashes(plain) == hashes(recomputed)


def test_a_loss_that_is_no_number_ends_the_run_with_its_reason(tmp_path: Path, tiny_model: Path) -> None:
    """One row holds a token whose embedding is NaN: the step that meets it ends the run, and nothing is saved after it."""
    data = MadeUpData()
    rows, order = pack(data.lengths("train"), ROW_TOKENS), list(EpochSampler(13, seed=42))
    data.put_token(501, document=int(rows[order[5]][0]))  # of the second step
    model = _with_broken_embedding(tiny_model, tmp_path / "model", 501)
    run = TinyRun(tmp_path, config := config_for(model, eval__samples_per_eval=0))
    with pytest.raises(Diverged, match=r"diverged at step \d+: the loss is nan") as caught:
        run.train(data, plan_for(config, data, eval_every_steps=1))
    assert caught.value.exit_code == 3 and "train.lr" in caught.value.hint
    (diverged,) = run.of(TrainingDiverged)
    assert math.isnan(diverged.value) and diverged.quantity == "loss"
    assert run.of(TrainStep)[-1].step == diverged.step == 2
    assert [saved.step for saved in run.of(CheckpointSaved)] == list(range(1, diverged.step))


def _with_broken_embedding(model: Path, folder: Path, token: int) -> Path:
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_step_that_float16_skips_is_no_divergence() -> None:
    """The gradient scaler finds its scale by overflowing: then, and only then, a norm may be infinite."""
    told: list[Event] = []
    recorder = Recorder(told.append, Progress(), total_steps=9, cuda=False)
    recorder.step(StepDone(1, 0.1, 2.0, 1e-3, math.inf, skipped=True))
    with pytest.raises(Diverged, match="step 2: the gradient norm is inf"):
        recorder.step(StepDone(2, 0.2, 2.0, 1e-3, math.inf))
    assert [type(event) for event in told] == [TrainStep, TrainStep, TrainingDiverged]


def test_training_stops_early_and_the_best_checkpoint_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    changes = {"train__early_stopping__patience": 2, "train__early_stopping__min_delta": 10.0}
    run = trained(tmp_path, tiny_model, plan={"epochs": 6}, **changes)
    (stopped,) = run.of(EarlyStopped)
    losses = {evaluated.step: evaluated.loss for evaluated in run.of(Evaluated)}
    assert stopped.step == max(losses) == 9  # 10 nats are never gained: the first sets the mark, the next two wait
    report = run.report  # type: ignore[attr-defined]
    assert report["ended"] == "early" and report["steps"] == 9
    assert report["best_loss"] == min(losses.values()) == losses[report["best_step"]]
    assert (run.folder.path / report["best_checkpoint"] / ADAPTER_WEIGHTS).is_file()
    assert min(losses.values()) < losses[3]  # it fell, by less than was asked for: that is what is said
    assert stopped.why() == "the held-out loss did not fall by more than 10 in 2 evaluations"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [([8, 7, 6, 7, 5, 4, 3, 3], [1, 2, 3, 3, 5, 6, 7, 7]), ([1, 2, 3, 4, 5, 6, 7, 8], [1] * 8)],
    ids=["better and better", "best at first"],
)
def test_after_every_save_the_best_checkpoint_and_the_two_newest_are_on_the_disk(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, measured: list[float], expected: list[int]
) -> None:
    """What each evaluation gives is made up: which checkpoint is the best would be another on another processor."""
    config, data = config_for(tiny_model, eval__samples_per_eval=0, train__early_stopping__enabled=False), MadeUpData()
    made_up = iter(measured)
    monkeypatch.setattr(HeldOutRows, "loss", lambda *_: (float(next(made_up)), 10))
    run = TinyRun(tmp_path, config)
    emit, losses, bests = run.ctx.emit, dict[int, float](), list[int]()

    def look(event: Event) -> None:
        emit(event)
        if isinstance(event, Evaluated):
            losses[event.step] = event.loss
        if isinstance(event, CheckpointSaved):
            best = min(losses, key=lambda step: (losses[step], step))
            bests.append(best)
            kept = {int(path.name.removeprefix("step-")) for path in run.folder.checkpoints.iterdir()}
            assert kept == {best, event.step, event.step - 1} - {0}

    run.ctx = replace(run.ctx, emit=look)
    run.train(data, plan_for(config, data, eval_every_steps=1))
    assert len(losses) == 8
    assert bests == expected


def test_without_held_out_rows_the_last_checkpoint_is_the_best_and_it_is_said(tmp_path: Path, tiny_model: Path) -> None:
    run = trained(tmp_path, tiny_model, MadeUpData(val=0))
    assert not run.of(Evaluated)
    assert sum("no held-out rows" in note.text for note in run.of(Note)) == 1
    (ended,) = run.of(TrainEnded)
    assert ended.best_step == ended.steps == 8 and ended.best_loss is None


def test_a_target_module_the_model_lacks_is_refused_with_those_it_has(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(BadInput, match=r"train\.lora\.target_modules: .*'query'.*down_proj, gate_proj, k_proj") as caught:
        trained(tmp_path, tiny_model, train__lora__target_modules=["q_proj", "query"])
    assert "humigence config set" in caught.value.hint and "lm_head" not in str(caught.value)


def test_a_plan_for_other_rows_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    config, data = config_for(tiny_model), MadeUpData()
    with pytest.raises(BadInput, match="for 13 rows and the prepared data makes 23"):
        TinyRun(tmp_path, config).train(MadeUpData(train=48, seed=0), plan_for(config, data))


def test_a_checkpoint_holds_no_pickle_and_loads_as_a_peft_adapter(tmp_path: Path, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = trained(tmp_path, tiny_model)
    newest = max(run.folder.checkpoints.glob("step-*"))
    assert {path.suffix for path in newest.iterdir()} == {".safetensors", ".json"}
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(newest))
    saved = load_file(newest / ADAPTER_WEIGHTS)
    found = {name: tensor for name, tensor in loaded.state_dict().items() if "lora_" in name}
    assert len(found) == len(saved) == 28  # A and B of seven linear layers, in two layers
    for name, tensor in saved.items():
        assert found[name.replace(".weight", ".default.weight")].equal(tensor)
    assert json.loads((newest / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)
