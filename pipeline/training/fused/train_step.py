"""The fused model as a trainer meets it: collated micro-batches in, losses out, and whether it can stand for a model at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.training.fused.cuda_graph import WORTH_IT
from pipeline.training.fused.decoder import Batch, FusedModel
from pipeline.training.fused.torch_ops import MULTIPLE
from pipeline.training.packed_rows import NOT_TRAINED

_NEARLY = 0.9


def unsupported(causal: Any, row_tokens: int) -> str:
    """Why the fused layers can't stand for those of a model of a family they are written for; empty where they can."""
    config, layers = causal.config, causal.model.layers
    if config.hidden_act != "silu" or config.attention_dropout:
        return "the model has another activation, or dropout in its attention"
    if any((getattr(layer.self_attn, "sliding_window", None) or row_tokens) < row_tokens for layer in layers):
        return "the model attends through a window shorter than a row"
    return ""


class FusedStep:
    """Losses and gradients of micro-batches as `rows.collate` makes them, or parts of one.

    Args:
        seed: with the number of the step and of its micro-batch, what dropout follows from; a resumed run draws the same.
        tokens: of a whole micro-batch, padding included.
        one_size: fill every micro-batch up to that, so that no result depends on how fast this machine is.
    """

    def __init__(self, model: FusedModel, seed: int, tokens: int = 0, *, one_size: bool = False) -> None:
        self.model, self._seed, self._tokens, self._one_size = model, seed, tokens, one_size
        self._micro_batch = -1
        self._pace = Pace() if model.device.type == "cuda" else None

    def step_begins(self) -> None:
        self._micro_batch = -1

    def micro_batch_begins(self) -> None:
        self._micro_batch += 1

    def release(self) -> None:
        """Hold no more memory than weights and gradients: something else is going to need it."""
        self.model.use_graph(False)
        if self._pace:
            self._pace.begin_again()

    def loss(self, batch: dict[str, Any], trained_in_step: int, step: int) -> torch.Tensor:
        """A share of the step's mean loss, in nats, (); its gradients are added to the parameters'.

        Leaves nothing behind when memory runs out in it.

        Args:
            batch: the micro-batch that has begun, or a part of it.
            trained_in_step: trained tokens of all micro-batches of the step.
            step: optimizer steps done before.
        """
        device = self.model.device
        self.model.adapter.hand_out_gradients()
        words = np.random.SeedSequence([self._seed, step, self._micro_batch + 1]).generate_state(2).tolist()
        # Filled in on the device: a copy of a number in ordinary memory would wait for all work before it.
        key = torch.full((1,), words[0] | (words[1] >> 2) << 32, dtype=torch.int64, device=device)
        scale = torch.full((1,), 1 / trained_in_step, dtype=torch.float32, device=device)
        tokens = as_tokens(batch, device, self._at_least(batch["input_ids"].numel()))
        if self.model.replayed_tokens not in (0, tokens.ids.numel()):
            self.release()  # a larger one, asked for beside it, would need its memory twice
        with self._pace.of(tokens.ids.numel()) if self._pace else nullcontext():
            loss = self.model.loss_and_gradients(tokens, scale, key).reshape(())
        if self._pace and self._pace.wants_graph():
            self.model.use_graph(True)
        return loss

    def _at_least(self, tokens: int) -> int:
        """How many tokens a micro-batch of so many is filled up to: nearly whole ones to a whole one, so that most have one size;
        the last of an epoch, far smaller, where one is recorded, since to replay that is faster than to ask for less."""
        whole = self._tokens if self._one_size or tokens >= _NEARLY * self._tokens else 0
        return max(whole, self.model.replayed_tokens)

    def loss_sum(self, batch: dict[str, Any]) -> float:
        """The sum of the losses over a micro-batch of held-out rows, in nats."""
        return float(self.model.loss_sum(as_tokens(batch, self.model.device)))


class Pace:
    """Who is slower: Python asking for the work, or the GPU doing it. Looked at in the third micro-batch of a size.

    Raises nothing and waits for the GPU once.
    """

    def __init__(self) -> None:
        self._worth_it: bool | None = None
        self._told = False
        self._seen: dict[int, int] = {}

    def begin_again(self) -> None:
        """A graph was given up; what was found out stands."""
        self._told = False

    def wants_graph(self) -> bool:
        """Once, when a graph pays and there is none."""
        wanted = bool(self._worth_it) and not self._told
        self._told = self._told or wanted
        return wanted

    @contextmanager
    def of(self, tokens: int) -> Iterator[None]:
        """A micro-batch of so many tokens is asked for inside."""
        self._seen[tokens] = self._seen.get(tokens, 0) + 1
        if self._worth_it is not None or self._seen[tokens] != 3:
            yield
            return
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        began = time.perf_counter()
        yield
        asked = time.perf_counter() - began
        end.record()
        end.synchronize()
        self._worth_it = asked > WORTH_IT * start.elapsed_time(end) / 1000


def as_tokens(batch: dict[str, Any], device: torch.device, at_least: int = 0) -> Batch:
    """All rows of a collated micro-batch one after another, filled up to a multiple of the kernels' tiles, and to `at_least`.

    What fills it up is documents of a tile each, whose attention costs next to nothing. Nothing here waits for the device.
    """
    ids, labels, positions = (
        batch[name].to(device, non_blocking=True).reshape(-1) for name in ("input_ids", "labels", "position_ids")
    )
    wanted = max(at_least, ids.numel())
    fill = wanted - ids.numel() + -wanted % MULTIPLE
    tokens = ids.numel() + fill
    places = torch.arange(tokens, dtype=torch.int32, device=device)
    ids = functional.pad(ids.int(), (0, fill))
    # A label belongs to the place before its token; the first of each document has none, so none crosses from one to another.
    targets = functional.pad(labels.int()[1:], (0, fill + 1), value=NOT_TRAINED)
    positions = torch.cat([positions.int(), places[:fill] % MULTIPLE])
    following = torch.where(positions == 0, places, tokens).roll(-1)
    following[-1:] = tokens
    last = following.flip(0).cummin(0).values.flip(0).int()
    return Batch(ids, targets, positions, places - positions, last)
