"""Quantized weights of bitsandbytes, de-quantized into room that is there already."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Quantized(Protocol):
    def dequantize(self, out: torch.Tensor) -> None:
        """Write the weights into `out` (outputs, inputs), rounded to its type."""


def is_quantized(module: Any) -> bool:
    """Whether its weights are packed: plain ones are used as they are."""
    return hasattr(module.weight, "quant_state") or module.weight.dtype == torch.int8


def quantized(module: Any) -> Quantized:
    return Nf4(module) if hasattr(module.weight, "quant_state") else Int8(module)


class Nf4:
    """4-bit weights, with the scales of their blocks in 32 bits, as the second quantization gives them."""

    def __init__(self, module: Any) -> None:
        from bitsandbytes import functional

        state = module.weight.quant_state
        self._packed: torch.Tensor = module.weight.data
        self._scales: torch.Tensor = state.absmax
        if state.nested:
            self._scales = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        self._scales = self._scales.float()
        self._block, self._kind = state.blocksize, state.quant_type

    def dequantize(self, out: torch.Tensor) -> None:
        arguments = (self._packed, self._scales, self._block, self._kind, list(out.shape), out.dtype)
        if out.is_cuda:
            torch.ops.bitsandbytes.dequantize_4bit.out(*arguments, out=out)
        else:  # it writes into given room on GPUs only
            out.copy_(torch.ops.bitsandbytes.dequantize_4bit.default(*arguments))


class Int8:
    """8-bit weights with a scale for each output (LLM.int8, Dettmers et al. 2022).

    The products are computed with the weights these stand for, not with inputs rounded to 8 bits too.
    """

    def __init__(self, module: Any) -> None:
        self._packed: torch.Tensor = module.weight.data
        scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
        self._scales: torch.Tensor = (scales.float() / 127)[:, None]

    def dequantize(self, out: torch.Tensor) -> None:
        torch.mul(self._packed, self._scales.to(out.dtype), out=out)
