"""A micro-batch's whole work as one CUDA graph, for where Python takes longer to ask for the work than the GPU to do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch

from pipeline.training.fused.decoder_layer import BatchContext

Step = Callable[[torch.Tensor, torch.Tensor, BatchContext, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""`(ids, targets, context, scale, weights) -> loss`: all the work of a micro-batch, nothing of which waits for the device. `ids`
and `targets` are (T,) int32, `weights` (T,) float32 or None, `scale` and the loss (1,) float32."""

# Python's time to launch a micro-batch's kernels, as a share of the GPU's to run them, from which on a graph pays.
WORTH_IT = 0.6


class StepGraph:
    """A step for micro-batches of one size, recorded once and replayed with other numbers in the same tensors.

    It holds the memory of its activations as long as it lives.

    Args:
        ids, targets, context, scale, weights: of the micro-batch it is recorded with, see `Step`. Recording computes nothing.

    Raises:
        torch.OutOfMemoryError: there is no room for the activations.
    """

    def __init__(
        self,
        step: Step,
        ids: torch.Tensor,
        targets: torch.Tensor,
        context: BatchContext,
        scale: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> None:
        # The graph reads these addresses at each replay: a later micro-batch is copied into them.
        own_weights = None if weights is None else weights.clone()
        self._inputs = [each.clone() for each in (ids, targets, scale, *_tensors(context))]
        ids, targets, scale, *rest = self._inputs
        own = _with_tensors(context, rest)
        if own_weights is not None:
            self._inputs.append(own_weights)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what the steps before it used is what it needs, and it takes none of torch's free blocks
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = step(ids, targets, own, scale, own_weights)  # (1,) float32, in the graph's memory

    @property
    def tokens(self) -> int:
        """The size of a micro-batch it was recorded for, padding included."""
        return self._inputs[0].numel()

    def __call__(
        self,
        ids: torch.Tensor,
        targets: torch.Tensor,
        context: BatchContext,
        scale: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of a micro-batch of the recorded size, (1,) float32; its gradients go where the recorded step wrote them.

        It has weights where the recorded one had some: all micro-batches of a run have, or none.
        """
        given = [ids, targets, scale, *_tensors(context), *([] if weights is None else [weights])]
        for own, new in zip(self._inputs, given, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._loss.clone()  # the next replay overwrites it


def _tensors(context: BatchContext) -> list[torch.Tensor]:
    found = [value for field in fields(context) if isinstance(value := getattr(context, field.name), torch.Tensor)]
    return [*found, context.dropout.key] if context.dropout else found


def _with_tensors(context: BatchContext, tensors: list[torch.Tensor]) -> BatchContext:
    """`context` over the tensors that `_tensors` lists, in its order."""
    cos, sin, doc_start, doc_end, *key = tensors
    dropout = replace(context.dropout, key=key[0]) if context.dropout else None
    return BatchContext(cos, sin, doc_start, doc_end, dropout)
