"""Frozen linear layers that read the same input as one matrix product, with their adapters, forward and backward.

LoRA (Hu et al. 2021): `y = x Wᵀ + b + (drop(x) Aᵀ) Bᵀ`; the scale `alpha / r` is multiplied into A (see `flat_lora`). With
`xa = drop(x) Aᵀ` the gradients are `dB = dyᵀ xa`, `dxa = dy B`, `dA = dxaᵀ drop(x)`, and for the input `dy W + drop(dxa A)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.training.fused.bnb_weights import is_quantized, quantized
from pipeline.training.fused.flat_lora import AdapterGroup
from pipeline.training.fused.torch_ops import Product

# Up to this rank a product costs a kernel that reads its place anyway less than a pass of its own costs.
_MAX_DEFERRED_RANK = 32


class Scratch:
    """One buffer for de-quantized weights a shape: each matrix is used at once and overwritten by the next."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int], torch.Tensor] = {}

    def buffer(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """The buffer of `shape` (outputs, inputs), whatever was written into it last."""
        if shape not in self._buffers:
            self._buffers[shape] = torch.empty(shape, dtype=dtype, device=device)
        return self._buffers[shape]


class FusedLinear:
    """The linear layers `modules` (plain, or quantized by bitsandbytes) with their outputs side by side.

    Args:
        compute: the dtype of the products; weights that are not quantized must have it.
        keep_dequantized: hold quantized weights de-quantized as well, instead of de-quantizing them at each use.

    Attributes:
        outputs: features of each layer, in order.
        adapters: those of the layers that have one; None without any.
    """

    def __init__(self, modules: Sequence[Any], compute: torch.dtype, scratch: Scratch, *, keep_dequantized: bool) -> None:
        self.outputs = [int(module.out_features) for module in modules]
        self.adapters: AdapterGroup | None = None
        self._shape = (sum(self.outputs), int(modules[0].in_features))
        self._compute, self._scratch, self._device = compute, scratch, modules[0].weight.device
        self._quantized = [quantized(module) for module in modules] if is_quantized(modules[0]) else []
        self._matrix = self._side_by_side(modules) if keep_dequantized or not self._quantized else None
        if keep_dequantized:
            self._quantized = []
        biases = [module.bias for module in modules]
        self._bias = None if biases[0] is None else torch.cat([bias.to(compute) for bias in biases])  # (outputs,) compute

    def _side_by_side(self, modules: Sequence[Any]) -> torch.Tensor:
        if self._quantized:
            return self._dequantize_into(torch.empty(self._shape, dtype=self._compute, device=self._device))
        if len(modules) == 1:
            matrix: torch.Tensor = modules[0].weight.data
            return matrix
        matrix = torch.cat([module.weight.data for module in modules])  # (outputs, inputs) compute
        for module, part in zip(modules, torch.split(matrix, self.outputs), strict=True):
            module.weight.data = part  # no second copy
        return matrix

    def _dequantize_into(self, out: torch.Tensor) -> torch.Tensor:
        for weight, part in zip(self._quantized, torch.split(out, self.outputs), strict=True):
            weight.dequantize(part)
        return out

    def matrix(self) -> torch.Tensor:
        """(outputs, inputs) in the compute dtype, to be used before the next call of any layer of this shape."""
        if self._matrix is not None:
            return self._matrix
        return self._dequantize_into(self._scratch.buffer(self._shape, self._compute, self._device))

    def times_a(self, dropped: torch.Tensor) -> torch.Tensor | None:
        """`xa`, (T, ranks): the layers' input after dropout, (T, inputs), times every A at once; None without adapters."""
        return None if self.adapters is None else dropped @ self.adapters.a.t()

    def deferred(self, xa: torch.Tensor | None, parts: int) -> list[Product | None]:
        """What the adapters add to each of equal parts of the outputs, where it is better added by whoever reads those.

        Args:
            xa: (T, ranks), of `times_a`.
            parts: there are; each lies within one layer.

        Returns:
            one a part, in order; None where nothing is added, or all where a rank is too large and `forward` adds it.
        """
        found: list[Product | None] = [None] * parts
        if self.adapters is None or xa is None or max(b.shape[1] for b in self.adapters.b) > _MAX_DEFERRED_RANK:
            return found
        width = self._shape[0] // parts  # outputs
        for b, outputs, ranks in zip(self.adapters.b, self.adapters.outputs, self.adapters.ranks, strict=True):
            for start in range(outputs.start, outputs.stop, width):
                of_part = b[start - outputs.start : start - outputs.start + width]  # (width, rank)
                found[start // width] = Product(xa[:, ranks], of_part.t())
        return found

    def forward(self, x: torch.Tensor, xa: torch.Tensor | None, residual: torch.Tensor | None = None) -> torch.Tensor:
        """The layers' outputs side by side.

        Args:
            x: (T, inputs) in the compute dtype.
            xa: (T, ranks), of `times_a`; None leaves the adapters out.
            residual: (T, outputs), added. Left as it is.

        Returns:
            (T, outputs) in the compute dtype.
        """
        if residual is None:
            matrix = self.matrix().t()
            return self._add_adapters_(x @ matrix if self._bias is None else torch.addmm(self._bias, x, matrix), xa)
        if self._bias is not None:
            residual = residual + self._bias
        y = self._add_adapters(residual, xa)
        return y.addmm_(x, self.matrix().t()) if y is not residual else torch.addmm(y, x, self.matrix().t())

    def _add_adapters(self, y: torch.Tensor, xa: torch.Tensor | None) -> torch.Tensor:
        """A new tensor with the adapters' outputs added, or `y` itself without adapters."""
        if self.adapters is None or xa is None:
            return y
        if len(self.adapters.b) == 1 and self.adapters.outputs[0] == slice(0, y.shape[1]):
            return torch.addmm(y, xa, self.adapters.b[0].t())
        return self._add_adapters_(y.clone(), xa)

    def _add_adapters_(self, y: torch.Tensor, xa: torch.Tensor | None) -> torch.Tensor:
        if self.adapters is None or xa is None:
            return y
        for b, outputs, ranks in zip(self.adapters.b, self.adapters.outputs, self.adapters.ranks, strict=True):
            y[:, outputs].addmm_(xa[:, ranks], b.t())
        return y

    def backward(self, dy: torch.Tensor, dropped: torch.Tensor, xa: torch.Tensor) -> torch.Tensor:
        """Writes the adapters' gradients; returns `dxa`.

        `dy @ matrix()` is the frozen layers' part of the gradient for `x`; `input_gradient(dxa)` the adapters'.

        Args:
            dy: (T, outputs) in the compute dtype.
            dropped, xa: what `times_a` took, (T, inputs), and gave, (T, ranks).
        """
        dxa = self.b_backward(dy, xa)
        self.a_backward(dxa, dropped)
        return dxa

    def b_backward(self, dy: torch.Tensor, xa: torch.Tensor) -> torch.Tensor:
        """Every B's gradient, and `dxa` (T, ranks): the half of `backward` that does not need the input."""
        adapters = self.adapters
        assert adapters is not None
        dxa = torch.empty_like(xa)  # (T, ranks) compute
        parts = zip(adapters.b, adapters.b_gradients, adapters.outputs, adapters.ranks, strict=True)
        for b, b_gradient, outputs, ranks in parts:
            torch.mm(dy[:, outputs], b, out=dxa[:, ranks])
            torch.mm(dy[:, outputs].t(), xa[:, ranks], out=b_gradient)
        return dxa

    def a_backward(self, dxa: torch.Tensor, dropped: torch.Tensor) -> None:
        """Every A's gradient at once: the other half of `backward`."""
        assert self.adapters is not None
        torch.mm(dxa.t(), dropped, out=self.adapters.a_gradient)

    def input_gradient_product(self, dxa: torch.Tensor) -> Product:
        """`input_gradient`, not multiplied yet."""
        assert self.adapters is not None
        return Product(dxa, self.adapters.a)

    def input_gradient(self, dxa: torch.Tensor) -> torch.Tensor:
        """The adapters' part of the gradient for their input after dropout, (T, inputs)."""
        assert self.adapters is not None
        return dxa @ self.adapters.a

    def add_input_gradient_(self, dx: torch.Tensor, dxa: torch.Tensor) -> torch.Tensor:
        """`dx += input_gradient(dxa)`, for adapters without dropout."""
        assert self.adapters is not None
        return dx.addmm_(dxa, self.adapters.a)
