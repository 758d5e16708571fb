"""A micro-batch's whole work as one CUDA graph, for where Python takes longer to ask for the work than the GPU to do it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.training.fused.batch_context import BatchContext

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
        self._inputs = [each.clone() for each in (ids, targets, scale, *context.tensors())]
        ids, targets, scale, *rest = self._inputs
        own = context.with_tensors(rest)
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
        given = [ids, targets, scale, *context.tensors(), *([] if weights is None else [weights])]
        for own, new in zip(self._inputs, given, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._loss.clone()  # the next replay overwrites it
