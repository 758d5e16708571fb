"""A few micro-batches and optimizer steps of a plan on the real model, timed: what `humigence plan --measure` does.

What they train is thrown away.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.base_model.locate import BaseModel
from pipeline.config.schema import Config
from pipeline.planning.plan import Plan
from pipeline.system.gpu import Device
from pipeline.training import attention
from pipeline.training.build import Built, Replan, build_proved, prepare_device
from pipeline.training.clock import Clock, GpuClock, WallClock
from pipeline.training.isolation import model_inputs
from pipeline.training.loss import loss_sum
from pipeline.training.memory_recovery.atomic_adamw import AtomicAdamW
from pipeline.training.memory_recovery.limits import Limits
from pipeline.training.packed_rows import Document, PackedRow
from pipeline.training.process_memory import ProcessMemory

# Micro-batches. A GPU's kernels are compiled and its fused steps recorded in the first ones.
_WARM_UP = {"cuda": 6, "cpu": 1}
_TIMED = {"cuda": 20, "cpu": 2}
_PROVED_ON = 8  # rows


@dataclass(frozen=True)
class Cost:
    """What a plan's optimizer steps cost."""

    step_seconds: float  # the median micro-batch times the accumulation, and the median optimizer step
    tokens: float  # real ones of a step, on average
    peak_memory_bytes: int  # of the process on its device
    plan: Plan  # what was measured


def measure(
    config: Config,
    base: BaseModel,
    plan: Plan,
    device: Device,
    rows_of: Callable[[Plan], Sequence[PackedRow]],
    replan: Replan,
    progress: Callable[[int, int], None],
) -> Cost:
    """The cost of an optimizer step of `plan`, or of the plan that is made of what the proof at load has refused.

    Args:
        rows_of: at least one in a plan's layout; used again and again.
        replan: see `build.build_proved`.
        progress: called with the number of micro-batches done and of those there will be.

    Raises:
        BadInput: see `build.build_proved`.
        torch.OutOfMemoryError: the plan does not fit.
    """
    prepare_device(config, device)
    documents = [document for row in rows_of(plan)[:_PROVED_ON] for document in row]
    built = build_proved(config, base, plan, device, Limits(), documents, replan)
    work, plan, rows = _TimedTraining(config, built, device), built.plan, rows_of(built.plan)
    clock: Clock = GpuClock() if device.kind == "cuda" else WallClock()
    memory = ProcessMemory(cuda=device.kind == "cuda")
    memory.reset()
    micro, steps, tokens = list[float](), list[float](), list[int]()
    warm_up, timed = _WARM_UP[device.kind], _TIMED[device.kind]
    for number in range(warm_up + timed):
        batch = [rows[(number * plan.micro_batch + i) % len(rows)] for i in range(plan.micro_batch)]
        start = clock.mark()
        tokens.append(work.micro_batch(batch))
        middle = clock.mark()
        work.optimizer_step()
        end = clock.mark()
        if number >= warm_up:
            steps.append(clock.between(middle, end))
            micro.append(clock.between(start, middle))
        progress(number + 1, warm_up + timed)
    step_seconds = plan.accumulation * statistics.median(micro) + statistics.median(steps)
    return Cost(step_seconds, plan.accumulation * statistics.mean(tokens), memory.peak_bytes(), plan)


class _TimedTraining:
    """The model of a plan with its optimizer."""

    def __init__(self, config: Config, built: Built, device: Device) -> None:
        self._model, self._fused = built.model, built.fused
        self._model.train()  # without it the model's own layers drop nothing and recompute nothing
        self._collate = attention.collator(built.plan.attention)
        self._isolation = built.plan.isolation
        self._device = torch.device(device.torch_device)
        self._trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = AtomicAdamW(self._trained, lr=config.train.lr)
        self._clip = config.train.grad_clip

    def micro_batch(self, rows: Sequence[PackedRow]) -> int:
        """Forward and backward; returns the real tokens."""
        batch = self._collate(rows)
        tokens, trained = batch.pop("real_tokens"), max(1, batch.pop("trained_tokens"))
        if self._fused:
            self._fused.step_begins()
            self._fused.micro_batch_begins()
            self._fused.loss(batch, trained, 0)
        else:
            self._plain(batch, trained)
        return int(tokens)

    def _plain(self, batch: dict[str, Any], trained: int) -> None:
        inputs = model_inputs(batch, self._isolation, self._device)
        moved = {name: value.to(self._device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        labels, weights = moved.pop("labels"), moved.pop("weights", None)
        loss = loss_sum(self._model(**moved, use_cache=False).logits, labels, weights) / trained
        torch.autograd.backward(loss)

    def optimizer_step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()


def random_rows(row_tokens: int, vocabulary: int, count: int = 32) -> list[PackedRow]:
    """Full rows of four documents of random tokens, for when no data is prepared. The same at each call.

    Args:
        row_tokens: tokens of a row.
        vocabulary: ids are drawn from 0 to below this.
        count: rows.
    """
    draw = np.random.default_rng(0)

    def document(tokens: int) -> Document:
        ids = draw.integers(0, vocabulary, tokens)  # (tokens,) int64
        return Document(ids, ids)  # every token has a label, but the first of a document, which `collate` takes away

    quarter, rest = row_tokens // 4, row_tokens - 3 * (row_tokens // 4)
    return [[document(size) for size in (quarter, quarter, quarter, rest) if size] for _ in range(count)]
