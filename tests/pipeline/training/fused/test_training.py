"""Whole trainings with the fused layers, on the CPU in 32 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import Stopped
from pipeline.runs.checkpoint_folders import all_of
from pipeline.runs.events import Evaluated, MemoryRanOut, TrainStep
from tests import families
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for, stop_at


def trained(root: Path, model: Path, plan: dict[str, Any] | None = None, **changes: Any) -> TinyRun:
    config, data = config_for(model, **{"eval__samples_per_eval": 0} | changes), MadeUpData()
    run = TinyRun(root, config)
    run.train(data, plan_for(config, data, **{"kernels": "fused"} | (plan or {})))
    return run


@pytest.mark.parametrize("mode", ["qlora_nf4", "lora_bf16"])
def test_it_is_the_training_with_the_models_own_layers(tmp_path: Path, tiny_model: Path, mode: str) -> None:
    changes = {"train__lora__dropout": 0.0, "train__precision_mode": mode, "train__lora__target_modules": ["q_proj", "up_proj"]}
    compute = {"compute_dtype": "float32" if mode == "qlora_nf4" else "bfloat16"}
    plain = trained(tmp_path / "plain", tiny_model, {"kernels": "plain"} | compute, **changes)
    fused = trained(tmp_path / "fused", tiny_model, compute, **changes)
    noise = 1e-5 if mode == "qlora_nf4" else 2e-2
    assert [each.loss for each in fused.of(TrainStep)] == pytest.approx([each.loss for each in plain.of(TrainStep)], rel=noise)
    assert [each.grad_norm for each in fused.of(TrainStep)] == pytest.approx(
        [each.grad_norm for each in plain.of(TrainStep)], rel=100 * noise
    )
    assert [each.loss for each in fused.of(Evaluated)] == pytest.approx([each.loss for each in plain.of(Evaluated)], rel=noise)
    figures = [(each.tokens, each.trained_tokens) for each in fused.of(TrainStep)]
    assert figures == [(each.tokens, each.trained_tokens) for each in plain.of(TrainStep)]


@pytest.mark.parametrize("family", ["llama", "gemma3-text"])
def test_stopped_and_resumed_it_is_the_untroubled_training_to_the_bit(tmp_path: Path, tiny_model: Path, family: str) -> None:
    if family != "llama":
        tiny_model = families.save(family, tmp_path / "model")
    changes = {"train__lora__dropout": 0.3, "eval__samples_per_eval": 0}
    plan = {"recomputed_layers": 1, "gradient_checkpointing": True}
    whole = trained(tmp_path / "whole", tiny_model, plan, **changes)
    config, data = config_for(tiny_model, **changes), MadeUpData()
    watch, stop = stop_at(4)
    run = TinyRun(tmp_path / "parts", config, stop)
    emit = run.ctx.emit
    run.ctx = replace(run.ctx, emit=lambda event: (emit(event), watch(event))[0])
    made = plan_for(config, data, kernels="fused", **plan)
    with pytest.raises(Stopped):
        run.train(data, made)
    resumed = TinyRun(tmp_path / "parts", config)
    resumed.train(data, made, resume=True)
    adapters = [(all_of(each.folder.checkpoints)[-1] / "adapter_model.safetensors").read_bytes() for each in (whole, resumed)]
    assert adapters[0] == adapters[1]


def test_out_of_memory_in_a_step_changes_no_loss(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pipeline.training.fused.decoder_layer import FusedLayer

    untroubled = trained(tmp_path / "untroubled", tiny_model, train__lora__dropout=0.0)
    calls, backward = [0], FusedLayer.backward

    def short(self: FusedLayer, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 4:  # the second micro-batch, one of its two layers done
            raise torch.OutOfMemoryError("CUDA out of memory")
        return backward(self, *arguments)

    monkeypatch.setattr(FusedLayer, "backward", short)
    troubled = trained(tmp_path / "troubled", tiny_model, train__lora__dropout=0.0)
    assert [(each.place, each.answer) for each in troubled.of(MemoryRanOut)] == [("training", "smaller pieces")]
    losses = [[each.loss for each in run.of(TrainStep)] for run in (untroubled, troubled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
