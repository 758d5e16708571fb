"""The LoRA weights of a model in a few flat tensors: one to train, one for their gradients, one in the compute type.

`peft`'s parameters become views of the first, so that optimizer, checkpoints and generation see what they always saw. The
products of a micro-batch write their gradients into a fourth tensor, which is added to the gradients at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class LowRank:
    """The adapters of linear layers that read the same input, in the compute type.

    Attributes:
        down: (ranks of all of them together, inputs), the scale `alpha / r` in it; `down_gradient` of its shape is without it.
        up: (outputs, rank) of each; `up_gradients` of their shapes.
        outputs: the place of each among the outputs; `ranks` among the rows of `down`.
    """

    down: torch.Tensor
    down_gradient: torch.Tensor
    up: list[torch.Tensor]
    up_gradients: list[torch.Tensor]
    outputs: list[slice]
    ranks: list[slice]


class FlatAdapter:
    """All adapters of a model.

    Args:
        groups: for each fused linear layer the `peft` layers in it, None where a layer has no adapter, and the outputs of each.

    Raises:
        ValueError: the adapters have different scales.
    """

    def __init__(self, groups: Sequence[Sequence[tuple[Any | None, int]]], compute: torch.dtype) -> None:
        adapted = [[layer for layer, _ in group if layer is not None] for group in groups]
        layers = [layer for group in adapted for layer in group]
        scales = {layer.scaling["default"] for layer in layers}
        if len(scales) != 1:
            raise ValueError(f"adapters of different scales: {sorted(scales)}")
        self.scale = float(scales.pop())
        # All A before all B: each half is scaled, cast and added at once.
        self._parameters = [layer.lora_A["default"].weight for layer in layers]
        self._downs = sum(parameter.numel() for parameter in self._parameters)
        self._parameters += [layer.lora_B["default"].weight for layer in layers]
        device = self._parameters[0].device
        size = sum(parameter.numel() for parameter in self._parameters)
        self.weights = torch.empty(size, dtype=torch.float32, device=device)
        self.gradients = torch.zeros_like(self.weights)
        self._compute = torch.empty(size, dtype=compute, device=device)
        self._new = torch.empty_like(self._compute)
        self._gradient_views: list[torch.Tensor] = []
        self._take_over()
        self.low_rank = self._views(groups, adapted)

    def _take_over(self) -> None:
        place = 0
        for parameter in self._parameters:
            part = slice(place, place + parameter.numel())
            view = self.weights[part].view_as(parameter)
            view.copy_(parameter.data)
            parameter.data = view
            self._gradient_views.append(self.gradients[part].view_as(parameter))
            place = part.stop

    def _views(self, groups: Sequence[Sequence[tuple[Any | None, int]]], adapted: list[list[Any]]) -> list[LowRank | None]:
        found: list[LowRank | None] = []
        down, up = 0, self._downs
        for group, layers in zip(groups, adapted, strict=True):
            if not layers:
                found.append(None)
                continue
            ranks, outputs, ups, up_gradients, rank, output = [], [], [], [], 0, 0
            for layer, width in group:
                if layer is not None:
                    b = layer.lora_B["default"].weight
                    ranks.append(slice(rank, rank + b.shape[1]))
                    outputs.append(slice(output, output + width))
                    ups.append(self._compute[up : up + b.numel()].view_as(b))
                    up_gradients.append(self._new[up : up + b.numel()].view_as(b))
                    rank, up = rank + b.shape[1], up + b.numel()
                output += width
            inputs = layers[0].lora_A["default"].weight.shape[1]
            part = slice(down, down + rank * inputs)
            a, a_gradient = (flat[part].view(rank, inputs) for flat in (self._compute, self._new))
            found.append(LowRank(a, a_gradient, ups, up_gradients, outputs, ranks))
            down = part.stop
        return found

    def refresh(self) -> None:
        """Bring the weights into the compute type: before each micro-batch, for an optimizer step may lie between."""
        torch.mul(self.weights[: self._downs], self.scale, out=self._compute[: self._downs])
        self._compute[self._downs :].copy_(self.weights[self._downs :])

    def add_new_gradients(self) -> None:
        """Add what the micro-batch has written to the gradients."""
        self.gradients[: self._downs].add_(self._new[: self._downs], alpha=self.scale)
        self.gradients[self._downs :].add_(self._new[self._downs :])

    def hand_out_gradients(self) -> None:
        """Let the parameters' `grad` be the gradients; zero them first where a new optimizer step begins.

        A step begins where the optimizer's `zero_grad` has taken them away.
        """
        if self._parameters[0].grad is None:
            self.gradients.zero_()
            for parameter, gradient in zip(self._parameters, self._gradient_views, strict=True):
                parameter.grad = gradient
