"""A GPU that really runs out of memory, in both forms of a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.common.errors import EnvironmentFault
from pipeline.runs.events import Evaluated, MemoryRanOut, TrainStep
from tests import tiny
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

ROWS = 128  # of 48 tokens, each token with 32,000 logits: some GiB at once


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "wide", vocab_size=32_000, hidden_size=128, intermediate_size=512)


@pytest.fixture(autouse=True)
def all_memory_again() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def trained(root: Path, model: Path, attention: str, room_bytes: int | None) -> tuple[TinyRun, int]:
    """(the run, the most memory it held at once)"""
    root.mkdir()
    data = MadeUpData(train=1100, val=300)
    changes: dict[str, Any] = {
        "compute__gpu": "auto", "train__lora__dropout": 0.0, "train__lr": 1e-3, "train__precision_mode": "lora_bf16",
        "eval__samples_per_eval": 0, "eval__rows_while_training": 300,
    }  # fmt: skip
    config = config_for(model, **changes)
    plan = plan_for(
        config, data, device="cuda", compute_dtype="bfloat16", attention=attention, micro_batch=ROWS, accumulation=2, epochs=1,
        eval_every_steps=2,
    )  # fmt: skip
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(room_bytes / total if room_bytes else 1.0)
    torch.cuda.reset_peak_memory_stats()
    run = TinyRun(root, config)
    run.train(data, plan)
    return run, torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("attention", ["sdpa", "varlen"])
def test_with_half_the_memory_it_needs_a_training_has_the_same_losses(tmp_path: Path, wide_model: Path, attention: str) -> None:
    roomy, peak = trained(tmp_path / "roomy", wide_model, attention, None)
    short, short_peak = trained(tmp_path / "short", wide_model, attention, peak // 2)
    assert not roomy.of(MemoryRanOut) and peak > 1 << 30
    assert short.of(MemoryRanOut) and short_peak <= peak // 2
    for step, wanted in zip(short.of(TrainStep), roomy.of(TrainStep), strict=True):
        assert (step.tokens, step.trained_tokens, step.lr) == (wanted.tokens, wanted.trained_tokens, wanted.lr)
        assert step.loss == pytest.approx(wanted.loss, rel=2e-3)
        assert step.grad_norm == pytest.approx(wanted.grad_norm, rel=2e-2)
    held_out, wanted_held_out = ([each.loss for each in run.of(Evaluated)] for run in (short, roomy))
    assert held_out == pytest.approx(wanted_held_out, rel=2e-3)


def test_a_model_that_does_not_fit_is_told_with_what_it_takes(tmp_path: Path) -> None:
    # Large beside whatever the trainings before it have left in torch's blocks.
    large = tiny.save_model(tmp_path / "large", vocab_size=32_000, hidden_size=1024, intermediate_size=4096)
    with pytest.raises(EnvironmentFault, match=r"does not fit into the memory of .*weights take about \d{3}\.\d MiB") as caught:
        trained(tmp_path / "none", large, "varlen", 64 << 20)
    assert caught.value.exit_code == 4 and "compute.gpu" in caught.value.hint
