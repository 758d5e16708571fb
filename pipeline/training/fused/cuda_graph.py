"""A micro-batch's whole work as one CUDA graph, for where Python takes longer to ask for the work than the GPU to do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch

from pipeline.training.fused.decoder_layer import Tokens

Step = Callable[[torch.Tensor, torch.Tensor, Tokens, torch.Tensor], torch.Tensor]
"""`(ids, targets, tokens, scale) -> loss`: all the work of a micro-batch, nothing of which waits for the device."""

# Python's time to ask for a micro-batch, as a share of the GPU's to do it, from which on a graph pays.
WORTH_IT = 0.6


class StepGraph:
    """A step for micro-batches of one size, recorded once and replayed with other numbers in the same tensors.

    It holds the memory of its activations as long as it lives.

    Raises:
        torch.OutOfMemoryError: there is no room for them.
    """

    def __init__(self, step: Step, ids: torch.Tensor, targets: torch.Tensor, tokens: Tokens, scale: torch.Tensor) -> None:
        self._inputs = [each.clone() for each in (ids, targets, scale, *_tensors(tokens))]
        ids, targets, scale, *rest = self._inputs
        own = _with(tokens, rest)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what the steps before it used is what it needs, and it takes none of torch's free blocks
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = step(ids, targets, own, scale)

    @property
    def tokens(self) -> int:
        """The size of a micro-batch it was recorded for."""
        return self._inputs[0].numel()

    def __call__(self, ids: torch.Tensor, targets: torch.Tensor, tokens: Tokens, scale: torch.Tensor) -> torch.Tensor:
        for own, new in zip(self._inputs, (ids, targets, scale, *_tensors(tokens)), strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._loss.clone()


def _tensors(tokens: Tokens) -> list[torch.Tensor]:
    found = [value for field in fields(tokens) if isinstance(value := getattr(tokens, field.name), torch.Tensor)]
    return [*found, tokens.dropout.key] if tokens.dropout else found


def _with(tokens: Tokens, tensors: list[torch.Tensor]) -> Tokens:
    cos, sin, first, last, *key = tensors
    dropout = replace(tokens.dropout, key=key[0]) if tokens.dropout else None
    return Tokens(cos, sin, first, last, dropout)
