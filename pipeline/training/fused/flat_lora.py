"""The LoRA weights of a model in a few flat tensors: one to train, one for their gradients, one in the compute dtype.

`peft`'s parameters become views of the first, so that optimizer, checkpoints and generation see what they always saw. The
products of a micro-batch write their gradients into a fourth tensor, which is added to the gradients at once.

All four have the same order: every A, then every B, each in the order of the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class AdapterGroup:
    """The adapters of linear layers that read the same input, as views of the flat tensors in the compute dtype.

    Attributes:
        a: every A one below the other, the scale `alpha / r` multiplied in. The scale is not in `a_gradient`:
            `FlatAdapter.add_new_gradients` puts it there.
        outputs: the place of each adapter's layer among the outputs of all of them.
        ranks: the place of each adapter among the rows of `a`.
    """

    a: torch.Tensor  # (sum of the ranks, inputs)
    a_gradient: torch.Tensor  # (sum of the ranks, inputs)
    b: list[torch.Tensor]  # (outputs, rank) each
    b_gradients: list[torch.Tensor]  # (outputs, rank) each
    outputs: list[slice]
    ranks: list[slice]


class FlatAdapter:
    """All adapters of a model.

    Args:
        layers_and_outputs: for each fused linear layer the `peft` layers in it, None where a layer has no adapter, each with the
            number of its outputs.
        compute: the dtype of the products.

    Attributes:
        scale: `alpha / r`.
        weights: (parameters,) float32, the storage of `peft`'s parameters; `gradients` likewise, of their `grad`.
        groups: one for each fused linear layer, None without an adapter in it.

    Raises:
        ValueError: the adapters have different scales.
    """

    def __init__(self, layers_and_outputs: Sequence[Sequence[tuple[Any | None, int]]], compute: torch.dtype) -> None:
        adapted = [[layer for layer, _ in group if layer is not None] for group in layers_and_outputs]
        layers = [layer for group in adapted for layer in group]
        scales = {layer.scaling["default"] for layer in layers}
        if len(scales) != 1:
            raise ValueError(f"adapters of different scales: {sorted(scales)}")
        self.scale = float(scales.pop())
        # All A before all B: each half is scaled, cast and added at once.
        self._parameters = [layer.lora_A["default"].weight for layer in layers]  # (rank, inputs) float32 each
        self._a_size = sum(parameter.numel() for parameter in self._parameters)  # numbers in all A: where the B begin
        self._parameters += [layer.lora_B["default"].weight for layer in layers]  # (outputs, rank) float32 each
        device = self._parameters[0].device
        size = sum(parameter.numel() for parameter in self._parameters)
        self.weights = torch.empty(size, dtype=torch.float32, device=device)  # (parameters,)
        self.gradients = torch.zeros_like(self.weights)  # (parameters,) float32: sums of micro-batches need the 32 bits
        self._compute = torch.empty(size, dtype=compute, device=device)  # (parameters,) compute
        self._new = torch.empty_like(self._compute)  # (parameters,) compute: of one micro-batch
        self._gradient_views: list[torch.Tensor] = []
        self._take_over()
        self.groups = self._views(layers_and_outputs, adapted)

    def _take_over(self) -> None:
        offset = 0
        for parameter in self._parameters:
            part = slice(offset, offset + parameter.numel())
            view = self.weights[part].view_as(parameter)
            view.copy_(parameter.data)
            parameter.data = view
            self._gradient_views.append(self.gradients[part].view_as(parameter))
            offset = part.stop

    def _views(
        self, layers_and_outputs: Sequence[Sequence[tuple[Any | None, int]]], adapted: list[list[Any]]
    ) -> list[AdapterGroup | None]:
        found: list[AdapterGroup | None] = []
        a_offset, b_offset = 0, self._a_size
        for group, layers in zip(layers_and_outputs, adapted, strict=True):
            if not layers:
                found.append(None)
                continue
            ranks, outputs, bs, b_gradients, rank, output = [], [], [], [], 0, 0
            for layer, width in group:
                if layer is not None:
                    b = layer.lora_B["default"].weight  # (outputs, rank)
                    ranks.append(slice(rank, rank + b.shape[1]))
                    outputs.append(slice(output, output + width))
                    bs.append(self._compute[b_offset : b_offset + b.numel()].view_as(b))
                    b_gradients.append(self._new[b_offset : b_offset + b.numel()].view_as(b))
                    rank, b_offset = rank + b.shape[1], b_offset + b.numel()
                output += width
            inputs = layers[0].lora_A["default"].weight.shape[1]
            part = slice(a_offset, a_offset + rank * inputs)
            a, a_gradient = (flat[part].view(rank, inputs) for flat in (self._compute, self._new))
            found.append(AdapterGroup(a, a_gradient, bs, b_gradients, outputs, ranks))
            a_offset = part.stop
        return found

    def refresh(self) -> None:
        """Bring the weights into the compute dtype: before each micro-batch, for an optimizer step may lie between."""
        torch.mul(self.weights[: self._a_size], self.scale, out=self._compute[: self._a_size])
        self._compute[self._a_size :].copy_(self.weights[self._a_size :])

    def add_new_gradients(self) -> None:
        """Add what the micro-batch has written to the gradients; those of A by the chain rule times the scale."""
        self.gradients[: self._a_size].add_(self._new[: self._a_size], alpha=self.scale)
        self.gradients[self._a_size :].add_(self._new[self._a_size :])

    def hand_out_gradients(self) -> None:
        """Let the parameters' `grad` be the gradients; zero them first where a new optimizer step begins.

        A step begins where the optimizer's `zero_grad` has taken them away.
        """
        if self._parameters[0].grad is None:
            self.gradients.zero_()
            for parameter, gradient in zip(self._parameters, self._gradient_views, strict=True):
                parameter.grad = gradient
