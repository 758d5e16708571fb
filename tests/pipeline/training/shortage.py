"""Memory that runs out where a test wants it: in a forward or backward pass, an optimizer step, an evaluation, a sample's answer.

The errors are those of a GPU, of the CPU's allocator and of Python; they are raised in the second layer, the model's own or the
fused one, and in torch's optimizer, beneath everything that answers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.decoder_layer import FusedLayer

Place = Literal["forward", "backward", "optimizer", "held-out", "sample"]

ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
    MemoryError,
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)
"""Each made anew: an exception that is raised twice keeps its first traceback."""

Decide = Callable[[Place, int, bool], Exception | None]
"""Asked at every chance to run out: (place, tokens at once, whether activations are recomputed)."""


class _Backward(torch.autograd.Function):
    """Nothing in the forward pass; `fail` in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, fail: Callable[[], None]) -> torch.Tensor:
        ctx.fail = fail
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        ctx.fail()
        return gradient, None


@contextmanager
def shortage(decide: Decide) -> Iterator[list[Place]]:
    """Everything inside runs out of memory where `decide` returns an error; gives where it did."""
    happened: list[Place] = []

    def chance(place: Place, tokens: int, recomputed: bool) -> None:
        error = decide(place, tokens, recomputed)
        if error is not None:
            happened.append(place)
            raise error

    layer, adamw = LlamaDecoderLayer.forward, torch.optim.AdamW.step

    def forward(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tokens = hidden_states.shape[0] * hidden_states.shape[1]
        recomputed = bool(self.gradient_checkpointing)
        if self.self_attn.layer_idx == 1:
            if self.training:
                chance("forward", tokens, recomputed)
                # Behind the second layer's own backward pass: its gradients have been added when this one fails.
                hidden_states = _Backward.apply(hidden_states, lambda: chance("backward", tokens, recomputed))
            else:
                chance("sample" if kwargs.get("past_key_values") is not None else "held-out", tokens, recomputed)
        return layer(self, hidden_states, *args, **kwargs)

    def step(self: Any, closure: Any = None) -> Any:
        # The worst half of a step: every weight has moved.
        done = adamw(self, closure)
        chance("optimizer", 0, False)
        return done

    with pytest.MonkeyPatch.context() as patched:
        _fused(patched, chance)
        patched.setattr(LlamaDecoderLayer, "forward", forward)
        patched.setattr(torch.optim.AdamW, "step", step)
        yield happened


def _fused(patched: pytest.MonkeyPatch, chance: Callable[[Place, int, bool], None]) -> None:
    """The same of fused layers, which training and held-out loss both run through."""
    model_step, held_out_sum, forward, backward = FusedModel.step, FusedModel.loss_sum, FusedLayer.forward, FusedLayer.backward
    training, recomputed = False, False

    def step(self: FusedModel, *arguments: Any) -> torch.Tensor:
        nonlocal training, recomputed
        training, recomputed = True, self.are_recomputed()
        return model_step(self, *arguments)

    def loss_sum(self: FusedModel, *arguments: Any) -> torch.Tensor:
        nonlocal training
        training = False
        return held_out_sum(self, *arguments)

    def layer_forward(self: FusedLayer, x: torch.Tensor, *more: Any) -> Any:
        if self.number == 1:
            chance("forward" if training else "held-out", len(x), recomputed)
        return forward(self, x, *more)

    def layer_backward(self: FusedLayer, d: torch.Tensor, *more: Any) -> torch.Tensor:
        if self.number == 0:  # the layer above it has written its gradients
            chance("backward", len(d), recomputed)
        return backward(self, d, *more)

    patched.setattr(FusedModel, "step", step)
    patched.setattr(FusedModel, "loss_sum", loss_sum)
    patched.setattr(FusedLayer, "forward", layer_forward)
    patched.setattr(FusedLayer, "backward", layer_backward)


def once(place: Place, number: int, error: Callable[[], Exception]) -> Decide:
    """Memory runs out the `number`th time (from 0) that `place` is passed, and at no other."""
    passed = -1

    def decide(here: Place, _tokens: int, _recomputed: bool) -> Exception | None:
        nonlocal passed
        passed += here == place
        return error() if here == place and passed == number else None

    return decide


def room_for(most_tokens: int, *, places: tuple[Place, ...] = ("backward",), recomputed: int = 10**9) -> Decide:
    """Memory for `most_tokens` at once in `places`, for `recomputed` of them where activations are recomputed."""

    def decide(here: Place, tokens: int, is_recomputed: bool) -> Exception | None:
        most = recomputed if is_recomputed else most_tokens
        return ERRORS[0]() if here in places and tokens > most else None

    return decide
