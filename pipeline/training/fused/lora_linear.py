"""Frozen linear layers that read the same input as one matrix product, with their adapters, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from pipeline.training.fused.bnb_weights import is_quantized, quantized
from pipeline.training.fused.flat_lora import LowRank
from pipeline.training.fused.torch_ops import Product

# Up to this rank a product costs a kernel that reads its place anyway less than a pass of its own costs.
_LEFT_OPEN = 32


class Scratch:
    """Room for one de-quantized matrix of each shape: it is used at once and overwritten by the next."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[int, int], torch.Tensor] = {}

    def room(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        if shape not in self._rooms:
            self._rooms[shape] = torch.empty(shape, dtype=dtype, device=device)
        return self._rooms[shape]


class FusedLinear:
    """The linear layers `modules` (plain, or quantized by bitsandbytes) with their outputs side by side.

    Args:
        kept: hold quantized weights de-quantized as well, instead of de-quantizing them at each use.
        compute: the type of the products; weights that are not quantized must have it.
    """

    def __init__(self, modules: Sequence[Any], compute: torch.dtype, scratch: Scratch, *, kept: bool) -> None:
        self.outputs = [int(module.out_features) for module in modules]
        self.low_rank: LowRank | None = None
        self._shape = (sum(self.outputs), int(modules[0].in_features))
        self._compute, self._scratch, self._device = compute, scratch, modules[0].weight.device
        self._quantized = [quantized(module) for module in modules] if is_quantized(modules[0]) else []
        self._matrix = self._side_by_side(modules) if kept or not self._quantized else None
        if kept:
            self._quantized = []
        biases = [module.bias for module in modules]
        self._bias = None if biases[0] is None else torch.cat([bias.to(compute) for bias in biases])

    def _side_by_side(self, modules: Sequence[Any]) -> torch.Tensor:
        if self._quantized:
            return self._dequantized(torch.empty(self._shape, dtype=self._compute, device=self._device))
        if len(modules) == 1:
            matrix: torch.Tensor = modules[0].weight.data
            return matrix
        matrix = torch.cat([module.weight.data for module in modules])
        for module, part in zip(modules, torch.split(matrix, self.outputs), strict=True):
            module.weight.data = part  # no second copy
        return matrix

    def _dequantized(self, room: torch.Tensor) -> torch.Tensor:
        for weight, part in zip(self._quantized, torch.split(room, self.outputs), strict=True):
            weight.dequantize(part)
        return room

    def matrix(self) -> torch.Tensor:
        """(outputs, inputs), to be used before the next call of any layer of this shape."""
        if self._matrix is not None:
            return self._matrix
        return self._dequantized(self._scratch.room(self._shape, self._compute, self._device))

    def hidden(self, dropped: torch.Tensor) -> torch.Tensor | None:
        """The adapters' first half, (T, ranks), of the layers' input with dropout; None without adapters."""
        return None if self.low_rank is None else dropped @ self.low_rank.down.t()

    def left_open(self, hidden: torch.Tensor | None) -> list[Product | None]:
        """What the adapters add to the output of each layer where that is better left to whoever reads it; None elsewhere."""
        if self.low_rank is None or hidden is None or max(up.shape[1] for up in self.low_rank.up) > _LEFT_OPEN:
            return [None] * len(self.outputs)
        low_rank, found = self.low_rank, dict[int, Product]()
        for up, outputs, ranks in zip(low_rank.up, low_rank.outputs, low_rank.ranks, strict=True):
            found[outputs.start] = Product(hidden[:, ranks], up.t())
        starts = [0, *accumulate(self.outputs[:-1])]
        return [found.get(start) for start in starts]

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(T, outputs), the adapters and `residual` added.

        Args:
            x: (T, inputs).
            hidden: of the same; None leaves the adapters out.
        """
        if residual is None:
            matrix = self.matrix().t()
            return self._add_low_rank_(x @ matrix if self._bias is None else torch.addmm(self._bias, x, matrix), hidden)
        if self._bias is not None:
            residual = residual + self._bias
        y = self._add_low_rank(residual, hidden)
        return y.addmm_(x, self.matrix().t()) if y is not residual else torch.addmm(y, x, self.matrix().t())

    def _add_low_rank(self, y: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """A new tensor with the adapters' outputs added, or `y` itself without adapters."""
        if self.low_rank is None or hidden is None:
            return y
        if len(self.low_rank.up) == 1 and self.low_rank.outputs[0] == slice(0, y.shape[1]):
            return torch.addmm(y, hidden, self.low_rank.up[0].t())
        return self._add_low_rank_(y.clone(), hidden)

    def _add_low_rank_(self, y: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        if self.low_rank is None or hidden is None:
            return y
        for up, outputs, ranks in zip(self.low_rank.up, self.low_rank.outputs, self.low_rank.ranks, strict=True):
            y[:, outputs].addmm_(hidden[:, ranks], up.t())
        return y

    def backward(self, dy: torch.Tensor, dropped: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Writes the adapters' gradients; returns the gradient for `hidden`.

        `dy @ matrix()` is the frozen layers' part of the gradient for `x`; `times_down` of what this returns the adapters'.
        """
        dhidden = self.hidden_backward(dy, hidden)
        self.down_backward(dhidden, dropped)
        return dhidden

    def hidden_backward(self, dy: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The first half of `backward`, which does not need the input."""
        low_rank = self.low_rank
        assert low_rank is not None
        dhidden = torch.empty_like(hidden)
        parts = zip(low_rank.up, low_rank.up_gradients, low_rank.outputs, low_rank.ranks, strict=True)
        for up, up_gradient, outputs, ranks in parts:
            torch.mm(dy[:, outputs], up, out=dhidden[:, ranks])
            torch.mm(dy[:, outputs].t(), hidden[:, ranks], out=up_gradient)
        return dhidden

    def down_backward(self, dhidden: torch.Tensor, dropped: torch.Tensor) -> None:
        """The second half of `backward`."""
        assert self.low_rank is not None
        torch.mm(dhidden.t(), dropped, out=self.low_rank.down_gradient)

    def product_back(self, dhidden: torch.Tensor) -> Product:
        """`times_down`, not multiplied yet."""
        assert self.low_rank is not None
        return Product(dhidden, self.low_rank.down)

    def times_down(self, dhidden: torch.Tensor) -> torch.Tensor:
        assert self.low_rank is not None
        return dhidden @ self.low_rank.down

    def add_times_down_(self, dx: torch.Tensor, dhidden: torch.Tensor) -> torch.Tensor:
        assert self.low_rank is not None
        return dx.addmm_(dhidden, self.low_rank.down)
