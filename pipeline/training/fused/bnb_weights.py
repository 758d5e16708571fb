"""Quantized weights of bitsandbytes, de-quantized into a tensor that is there already.

The layouts are bitsandbytes' own: 4-bit numbers two a byte in (outputs × inputs / 2, 1) uint8, 8-bit ones in (outputs, inputs)
int8.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Quantized(Protocol):
    """The weights of one linear layer, however they are packed."""

    def dequantize(self, out: torch.Tensor) -> None:
        """Write the weights into `out` (outputs, inputs), rounded to its dtype."""


def is_quantized(module: Any) -> bool:
    """Whether its weights are packed: plain ones are used as they are."""
    return hasattr(module.weight, "quant_state") or module.weight.dtype == torch.int8


def quantized(module: Any) -> Quantized:
    """The weights of `module`, a `Linear4bit` or `Linear8bitLt` of bitsandbytes that `is_quantized`."""
    return Nf4(module) if hasattr(module.weight, "quant_state") else Int8(module)


class Nf4:
    """4-bit NormalFloat weights: a number's code times the scale of its block (QLoRA, Dettmers et al. 2023, section 3).

    Double quantization holds the scales in 8 bits too; they are brought to 32 bits once, here, not at each use.
    """

    def __init__(self, module: Any) -> None:
        from bitsandbytes import functional

        state = module.weight.quant_state
        self._packed: torch.Tensor = module.weight.data  # (outputs × inputs / 2, 1) uint8
        self._scales: torch.Tensor = state.absmax  # (blocks,) uint8 where nested, else float32
        if state.nested:
            self._scales = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        self._scales = self._scales.float()  # (blocks,) float32
        self._block, self._quant_type = state.blocksize, state.quant_type  # 64 numbers a block, "nf4"

    def dequantize(self, out: torch.Tensor) -> None:
        arguments = (self._packed, self._scales, self._block, self._quant_type, list(out.shape), out.dtype)
        if out.is_cuda:
            torch.ops.bitsandbytes.dequantize_4bit.out(*arguments, out=out)
        else:  # it writes into a given tensor on GPUs only
            out.copy_(torch.ops.bitsandbytes.dequantize_4bit.default(*arguments))


class Int8:
    """8-bit weights with a scale for each output (LLM.int8, Dettmers et al. 2022).

    The products are computed with the weights these stand for, not with inputs rounded to 8 bits too.
    """

    def __init__(self, module: Any) -> None:
        self._packed: torch.Tensor = module.weight.data  # (outputs, inputs) int8
        # The largest magnitude of each output, (outputs,); bitsandbytes moves it to its state at the first forward pass.
        scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
        self._scales: torch.Tensor = (scales.float() / 127)[:, None]  # (outputs, 1) float32: 127 stands for the largest

    def dequantize(self, out: torch.Tensor) -> None:
        torch.mul(self._packed, self._scales.to(out.dtype), out=out)
