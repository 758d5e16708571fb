"""The fused model as a trainer meets it: collated micro-batches in, losses out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.training.fused.cuda_graph import WORTH_IT
from pipeline.training.fused.decoder import FlatBatch, FusedModel
from pipeline.training.fused.torch_ops import MULTIPLE

# A micro-batch of at least this share of a whole one is padded to a whole one.
_NEARLY_WHOLE = 0.9


class FusedStep:
    """Losses and gradients of micro-batches as `packed_rows.collate` makes them, or parts of one.

    Args:
        seed: with the number of the step and of its micro-batch, what dropout follows from; a resumed run draws the same.
        tokens: of a whole micro-batch, padding included.
        one_size: pad every micro-batch to that, so that no result depends on how fast this machine is.
    """

    def __init__(self, model: FusedModel, seed: int, tokens: int = 0, *, one_size: bool = False) -> None:
        self.model, self._seed, self._tokens, self._one_size = model, seed, tokens, one_size
        self._micro_batch = -1
        self._pace = Pace() if model.device.type == "cuda" else None

    def step_begins(self) -> None:
        """To be called before the micro-batches of an optimizer step."""
        self._micro_batch = -1

    def micro_batch_begins(self) -> None:
        """To be called before a micro-batch, once whatever parts it is made in: they draw from one key."""
        self._micro_batch += 1

    def release(self) -> None:
        """Give the recorded step's memory back, all but weights and gradients: something else is going to need it."""
        self.model.use_graph(False)
        if self._pace:
            self._pace.begin_again()

    def loss(self, batch: dict[str, Any], trained_in_step: int, step: int) -> torch.Tensor:
        """A share of the step's mean loss, in nats, () float32 on the device; its gradients are added to the parameters'.

        Leaves nothing behind when memory runs out in it.

        Args:
            batch: the micro-batch that has begun, or a part of it, as `flatten_batch` takes it.
            trained_in_step: trained tokens of all micro-batches of the step, whatever they weigh.
            step: optimizer steps done before.

        Raises:
            torch.OutOfMemoryError: the micro-batch does not fit.
        """
        device = self.model.device
        self.model.adapter.hand_out_gradients()
        low, high = np.random.SeedSequence([self._seed, step, self._micro_batch + 1]).generate_state(2).tolist()  # 32 bits each
        # Filled in on the device: a copy of a number in ordinary memory would wait for all work before it.
        key = torch.full((1,), low | (high >> 2) << 32, dtype=torch.int64, device=device)  # 62 bits: never negative
        scale = torch.full((1,), 1 / trained_in_step, dtype=torch.float32, device=device)
        flat = flatten_batch(batch, device, self._at_least(batch["input_ids"].numel()))
        if self.model.replayed_tokens not in (0, flat.ids.numel()):
            self.release()  # a larger one, launched beside it, would need its memory twice
        with self._pace.of(flat.ids.numel()) if self._pace else nullcontext():
            loss = self.model.loss_and_gradients(flat, scale, key).reshape(())
        if self._pace and self._pace.wants_graph():
            self.model.use_graph(True)
        return loss

    def _at_least(self, tokens: int) -> int:
        """How many tokens a micro-batch of so many is padded to: nearly whole ones to a whole one, so that most have one size;
        the last of an epoch, far smaller, where one is recorded, since to replay that is faster than to launch less."""
        whole = self._tokens if self._one_size or tokens >= _NEARLY_WHOLE * self._tokens else 0
        return max(whole, self.model.replayed_tokens)

    def loss_sum(self, batch: dict[str, Any]) -> float:
        """The sum of the losses over a collated micro-batch of held-out rows, in nats."""
        return float(self.model.loss_sum(flatten_batch(batch, self.model.device)))


class Pace:
    """Who is slower: Python launching the kernels, or the GPU running them. Measured in the third micro-batch of a size.

    Raises nothing and waits for the GPU once.
    """

    def __init__(self) -> None:
        self._graph_pays: bool | None = None  # None until measured
        self._requested = False
        self._seen: dict[int, int] = {}  # micro-batches by their tokens

    def begin_again(self) -> None:
        """A graph was given up; what was measured stands."""
        self._requested = False

    def wants_graph(self) -> bool:
        """True once, when a graph pays and there is none."""
        wanted = bool(self._graph_pays) and not self._requested
        self._requested = self._requested or wanted
        return wanted

    @contextmanager
    def of(self, tokens: int) -> Iterator[None]:
        """A micro-batch of so many tokens is launched inside."""
        self._seen[tokens] = self._seen.get(tokens, 0) + 1
        if self._graph_pays is not None or self._seen[tokens] != 3:
            yield
            return
        torch.cuda.synchronize()  # else the launch would be timed with the work before it
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        began = time.perf_counter()
        yield
        launch_seconds = time.perf_counter() - began
        end.record()
        end.synchronize()
        self._graph_pays = launch_seconds > WORTH_IT * start.elapsed_time(end) / 1000  # elapsed_time: milliseconds


def flatten_batch(batch: dict[str, Any], device: torch.device, at_least: int = 0) -> FlatBatch:
    """All rows of a collated micro-batch one after another, padded to a multiple of the kernels' tiles, and to `at_least` tokens.

    The padding is documents of a tile each, whose attention costs next to nothing. Nothing here waits for the device.

    Args:
        batch: `input_ids`, `labels`, `position_ids`, each (rows, tokens) int64; perhaps `weights`, (rows, tokens) float32.
    """
    ids, labels, positions = (  # (rows × tokens,) int64 each
        batch[name].to(device, non_blocking=True).reshape(-1) for name in ("input_ids", "labels", "position_ids")
    )
    wanted = max(at_least, ids.numel())
    fill = wanted - ids.numel() + -wanted % MULTIPLE
    tokens = ids.numel() + fill
    places = torch.arange(tokens, dtype=torch.int32, device=device)  # (tokens,), as all that follow
    ids = functional.pad(ids.int(), (0, fill))
    # A label belongs to the place before its token; the first of each document has none, so none crosses from one to another.
    targets = functional.pad(labels.int()[1:], (0, fill + 1), value=NOT_TRAINED)
    weights = batch.get("weights")
    if weights is not None:
        weights = functional.pad(weights.to(device, non_blocking=True).reshape(-1)[1:], (0, fill + 1))  # as its target
    positions = torch.cat([positions.int(), places[:fill] % MULTIPLE])
    # The next document's start, seen from each place: the starts moved one to the left, then the least of all that follow.
    following = torch.where(positions == 0, places, tokens).roll(-1)
    following[-1:] = tokens
    doc_end = following.flip(0).cummin(0).values.flip(0).int()
    return FlatBatch(ids, targets, positions, places - positions, doc_end, weights)
