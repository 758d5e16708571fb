"""A frozen linear layer held in 16 bits that computes in the type of its input (32 bits on a CPU without bfloat16 units)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class WidenedLinear(nn.Linear):
    """`nn.Linear` whose weight is widened for each product and never saved wide: the backward pass widens it again."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs), both in the dtype of `input`."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        product: torch.Tensor = _WidenedProduct.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias


class _WidenedProduct(torch.autograd.Function):
    """`input @ weight.T`; autograd's own would save the wide copy of every layer until the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)  # (outputs, inputs) in 16 bits; the input is not needed, for the weight is frozen
        return functional.linear(input, weight.to(input.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight.to(gradient.dtype), None  # (…, inputs)
