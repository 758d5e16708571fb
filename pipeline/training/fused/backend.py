"""Which module computes the operations on a device: the Triton kernels on a GPU, plain torch elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Operations:
    """Two modules with the functions of `torch_ops` and `torch_attention`, in which each is described.

    Attributes:
        dense: has the operations over tokens and features.
        attention: has `attend` and `attend_backward`.
    """

    dense: Any
    attention: Any


def operations_for(device: torch.device) -> Operations:
    """The Triton kernels on "cuda", else plain torch, which takes the same arguments and gives the same results."""
    if device.type == "cuda":
        from pipeline.training.fused import triton_attention, triton_ops

        return Operations(triton_ops, triton_attention)
    from pipeline.training.fused import torch_attention, torch_ops

    return Operations(torch_ops, torch_attention)
