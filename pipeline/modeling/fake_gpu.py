"""What differs on a GPU, for fake tensors on the CPU: autocast, attention by offsets, values that code asks for in mid-forward.

Fake tensors on a GPU need torch's CUDA build, and the plan is made on machines without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

BY_OFFSETS = "humigence_by_offsets"


def register() -> None:
    """Make `attn_implementation=BY_OFFSETS` known to transformers. Again does no harm."""
    AttentionInterface.register(BY_OFFSETS, attend_by_offsets)
    AttentionMaskInterface.register(BY_OFFSETS, sdpa_mask)


def autocast(device: str, compute: torch.dtype) -> Any:
    """A context in which fake tensors on the CPU are computed with as real ones on `device` in the `compute` type."""
    if compute == torch.float32:
        return nullcontext()
    return _autocast_of_cuda(compute) if device == "cuda" else torch.autocast("cpu", dtype=compute)


@contextmanager
def _autocast_of_cuda(compute: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype=compute), _WidenedOperations():
        yield


class _WidenedOperations(TorchFunctionMode):
    """Operations that autocast computes in 32 bits on a GPU and not on a CPU.

    Source: https://docs.pytorch.org/docs/stable/amp.html#cuda-ops-that-can-autocast-to-float32
    """

    NAMES = frozenset(
        {"layer_norm", "group_norm", "softplus", "exp", "log", "log1p", "expm1", "reciprocal", "rsqrt", "pow", "__pow__", "norm",
         "softmax", "log_softmax", "cumsum", "cumprod", "sum", "prod", "logsumexp", "cosh", "sinh", "tan"}
    )  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        narrow = getattr(func, "__name__", "") in self.NAMES and kwargs.get("dtype") is None and torch.is_autocast_enabled("cpu")
        return func(*(_widened(each) for each in args), **kwargs) if narrow else func(*args, **kwargs)


def _widened(value: Any) -> Any:
    is_narrow = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_narrow else value


class _ByOffsets(torch.autograd.Function):
    """What torch's `varlen_attn` saves: query, key, value, its output, and the logarithm of the softmax's denominators."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        tokens, heads, _ = query.shape
        attended = query.new_empty(tokens, heads, value.shape[-1])
        ctx.save_for_backward(query, key, value, attended, query.new_empty(heads, tokens, dtype=torch.float32))
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def attend_by_offsets(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **_: Any
) -> tuple[torch.Tensor, None]:
    """In the place of `pipeline.training.varlen`; query, key, value (1, heads, tokens, head_dim)."""
    dtype = value.dtype if value.dtype in (torch.bfloat16, torch.float16) else torch.get_autocast_dtype("cpu")
    q, k, v = (each.to(dtype).transpose(1, 2).squeeze(0).contiguous() for each in (query, key, value))
    attended: torch.Tensor = _ByOffsets.apply(q, k, v)  # type: ignore[no-untyped-call]
    return attended.unsqueeze(0), None


class NumbersOfFakes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What code asks of a tensor's values in mid-forward, answered where there are none: a mask hides nothing, one token each."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype is torch.bool else 1
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty(1, args[0].dim(), dtype=torch.int64)
        if func is torch.ops.aten._grouped_mm.default:  # whose shapes torch knows in 16 bits only
            return args[0].new_empty(args[0].shape[0], args[1].shape[-1])
        return func(*args, **(kwargs or {}))
