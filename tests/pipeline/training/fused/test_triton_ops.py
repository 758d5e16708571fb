"""The Triton kernels against plain torch. They need a GPU, or where Triton is installed its interpreter (TRITON_INTERPRET=1),
which computes them on the CPU in minutes; in 32 bits a GPU's matrix units round to 10 bits of mantissa."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from pipeline.training.fused import torch_attention, torch_ops
from pipeline.training.fused.batch_context import seen_through
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.torch_ops import Angles, Dropout, HeadNorms, Heads, Product
from pipeline.training.fused.train_step import FusedStep
from tests.pipeline.training.fused.conftest import micro_batch

HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
INTERPRETED = not HAS_GPU and os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and not INTERPRETED, reason="needs a GPU of capability 8"),
]
HALF = torch.float32 if INTERPRETED else torch.bfloat16  # the interpreter has no products in 16 bits
on_a_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of capability 8")
LENGTHS = [5, 130, 1, 60, 60, 300, 84]
TOKENS = sum(LENGTHS)


def made(*size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(*size, device=DEVICE, generator=generator)


def documents() -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor(LENGTHS)
    last = torch.repeat_interleave(lengths.cumsum(0), lengths)
    first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return first.int().to(DEVICE), last.int().to(DEVICE)


def close(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(*([each] if isinstance(each, torch.Tensor) else each for each in (found, wanted)), strict=True):
        assert float((a.float() - b.float()).abs().max()) <= tolerance * max(1.0, float(b.float().abs().max()))


@pytest.fixture(params=[None, 0.3], ids=["plain", "dropout"])
def dropout(request: pytest.FixtureRequest) -> Dropout | None:
    key = torch.tensor([987_654_321_987_654_321], device=DEVICE)
    return None if request.param is None else Dropout(request.param, key, 1)


@pytest.mark.parametrize("hidden", [96, 576, 2048])
def test_norms(dropout: Dropout | None, hidden: int) -> None:
    from pipeline.training.fused import triton_ops

    x, dy, t, residual = (made(64, hidden, seed=i) for i in range(4))
    weight = made(hidden).abs() + 0.5
    close(triton_ops.rms_norm(x, weight, 1e-5, dropout), torch_ops.rms_norm(x, weight, 1e-5, dropout))
    rstd = torch_ops.rms_norm(x, weight, 1e-5)[2]
    close(triton_ops.rms_norm_again(x, weight, rstd, dropout), torch_ops.rms_norm_again(x, weight, rstd, dropout))
    for rest in ((None, None, None), (residual, None, None), (residual, t, dropout)):
        arguments = (dy, x, rstd, weight, *rest)
        close(triton_ops.rms_norm_backward(*arguments), torch_ops.rms_norm_backward(*arguments))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize(
    "adapted", ["", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("gate", "up", "down")), "gate up down"]
)
@pytest.mark.parametrize(("rows", "width", "rank"), [(64, 1500, 16), (40, 96, 4), (33, 130, 24)])
def test_gated_units_with_what_adapters_add(
    dropout: Dropout | None, adapted: str, rows: int, width: int, rank: int, activation: Any
) -> None:
    from pipeline.training.fused import triton_ops

    gate_up, d, hidden = made(rows, 2 * width), made(rows, width, seed=1), made(rows, 2 * rank, seed=2)
    ups = made(2, width, rank, seed=3)
    gate = Product(hidden[:, :rank], ups[0].t()) if "gate" in adapted else None
    up = Product(hidden[:, rank:], ups[1].t()) if "up" in adapted else None
    down = Product(made(rows, rank, seed=4), made(rank, width, seed=5)) if "down" in adapted else None
    arguments = (gate_up, gate, up, dropout, activation)
    close(triton_ops.glu(*arguments), torch_ops.glu(*arguments))
    results = []
    for module in (triton_ops, torch_ops):
        again, gradient = d.clone(), gate_up.clone()
        module.glu_backward_(again, gradient, gate, up, down, dropout, activation)  # type: ignore[attr-defined]
        results.append((again, gradient))
    close(*results)


def test_dropout_and_loss(dropout: Dropout | None) -> None:
    from pipeline.training.fused import triton_ops

    d = made(64, 1500, seed=1)
    residual, x, weight = made(64, 1500), made(64, 1500, seed=2), made(1500, seed=3)
    close(triton_ops.add_rms_norm(residual, x, weight, 1e-5), torch_ops.add_rms_norm(residual, x, weight, 1e-5))
    if dropout is not None:
        assert torch.equal(triton_ops.dropped(d, dropout), torch_ops.dropped(d, dropout))
        close(triton_ops.add_dropped_(d.clone(), d, dropout), torch_ops.add_dropped_(d.clone(), d, dropout))
    targets = torch.randint(0, 1000, (64,), device=DEVICE).int()
    targets[::3] = -100
    scale = torch.tensor([0.01], device=DEVICE)
    for weights in (None, torch.rand(64, device=DEVICE) * 3):
        found, wanted = made(64, 1000), made(64, 1000)
        close(
            triton_ops.cross_entropy_(found, targets, scale, weights, gradient=True),
            torch_ops.cross_entropy_(wanted, targets, scale, weights, gradient=True),
        )
        close(found, wanted)


@pytest.mark.parametrize(("query", "key", "dim"), [(6, 2, 32), (24, 8, 128), (4, 1, 256), (3, 3, 64)])
@pytest.mark.parametrize("turned", [0.0, 0.75, 1.0])
def test_rotation_and_norms_of_heads(query: int, key: int, dim: int, turned: float) -> None:
    from pipeline.training.fused import triton_ops

    heads, width = Heads(query, key, dim, 1.0), (query + 2 * key) * dim
    qkv, d, angle = made(40, width), made(40, width, seed=1), made(40, int(dim * turned) // 2, seed=2)
    angles = Angles(angle.cos(), angle.sin()) if turned else None
    if angles:
        for back in (False, True):
            close(*(module.rotate_(qkv.clone(), angles, heads, back=back) for module in (triton_ops, torch_ops)))  # type: ignore[attr-defined]
    for whole in (False, True):
        norms = HeadNorms(made(query + key if whole else 2, dim, seed=3), 1e-6, whole)
        arguments = (heads, norms, None if turned < 1 else angles)
        close(triton_ops.norm_heads(qkv, *arguments), torch_ops.norm_heads(qkv, *arguments))
        wide = qkv.clone().requires_grad_()
        torch_ops.norm_heads(wide, *arguments).backward(d)
        found = triton_ops.norm_heads_backward_(d.clone(), qkv, *arguments)
        close(found, torch_ops.norm_heads_backward_(d.clone(), qkv, *arguments))
        assert wide.grad is not None
        close(found, wide.grad)


@pytest.mark.parametrize("window", [0, 20, 100])
@pytest.mark.parametrize(
    ("query", "key", "dim"),
    [
        (6, 2, 32),
        (9, 3, 64),
        (8, 2, 128),
        (4, 1, 256),
        *(pytest.param(*heads, marks=pytest.mark.matrix) for heads in ((32, 4, 64), (4, 4, 128))),
    ],
)
def test_attention_and_its_gradients(query: int, key: int, dim: int, window: int) -> None:
    from pipeline.training.fused import triton_attention

    heads, (first, last) = Heads(query, key, dim, dim**-0.5), seen_through([window], *documents())[window]
    qkv = made(TOKENS, (query + 2 * key) * dim).to(HALF)
    wide = qkv.float().requires_grad_()
    wanted, wanted_lse = torch_attention.attend(wide, heads, first)
    out, lse = triton_attention.attend(qkv, heads, first)
    close(out, wanted, 1e-2)
    close(lse, wanted_lse, 1e-2)
    d = made(TOKENS, query * dim, seed=5).to(HALF)
    wanted.backward(d.float())
    found = triton_attention.attend_backward(d, qkv, out, lse, heads, first, last)
    assert wide.grad is not None
    assert float((found.float() - wide.grad).norm() / wide.grad.norm()) < 1e-2


def test_attention_gives_the_same_bits_twice() -> None:
    from pipeline.training.fused import triton_attention

    heads, (first, last) = Heads(9, 3, 64, 0.125), documents()
    qkv, d = made(TOKENS, 15 * 64).to(HALF), made(TOKENS, 9 * 64, seed=1).to(HALF)
    twice = []
    for _ in range(2):
        out, lse = triton_attention.attend(qkv, heads, first)
        twice.append((out, triton_attention.attend_backward(d, qkv, out, lse, heads, first, last)))
    assert all(torch.equal(a, b) for a, b in zip(*twice, strict=True))


@on_a_gpu
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("recomputed", [0, 3])
def test_a_recorded_micro_batch_gives_the_bits_of_one_asked_for(
    adapted: Callable[..., Any], recomputed: int, weighted: bool
) -> None:
    model = adapted(head_dim=32).to("cuda", torch.bfloat16)
    fused = FusedModel(model, torch.bfloat16, recomputed_layers=recomputed, keep_dequantized=False, dropout=0.1)
    batches = [micro_batch([100, 28], [128], seed=seed) for seed in range(4)]

    def gradients_of(batch: dict[str, Any]) -> tuple[float, torch.Tensor]:
        if weighted:  # other weights each time: a replay must not read those it was recorded with
            batch = batch | {"weights": (batch["input_ids"] % 7).float() / 3}
        step = FusedStep(fused, 0)
        for each in model.parameters():
            each.grad = None
        loss = float(step.loss(batch, 177, 3))
        return loss, fused.adapter.gradients.clone()

    asked = [gradients_of(batch) for batch in batches]
    fused.use_graph(True)
    recorded = [gradients_of(batch) for batch in batches]
    assert fused.replayed_tokens == 256
    for (loss, gradients), (wanted, wanted_gradients) in zip(recorded, asked, strict=True):
        assert loss == wanted and torch.equal(gradients, wanted_gradients)
    assert gradients_of(micro_batch([90]))[0] > 0  # a smaller one is filled up
    assert fused.replayed_tokens == 256
    assert gradients_of(micro_batch([90], [200], [100]))[0] > 0  # a larger one is asked for
    assert fused.replayed_tokens == 0


@on_a_gpu
def test_whole_model_in_bfloat16_is_within_its_noise_of_32_bits(adapted: Callable[..., Any]) -> None:
    batch, found = micro_batch([100, 28], [128], [60, 60]), []
    for dtype in (torch.float32, torch.bfloat16):
        model = adapted(head_dim=32).to("cuda", dtype)
        fused = FusedModel(model, dtype, recomputed_layers=1, keep_dequantized=False, dropout=0.0)
        found.append((float(FusedStep(fused, 0).loss(batch, 177, 0)), fused.adapter.gradients.clone()))
    (wanted, wanted_gradients), (loss, gradients) = found
    assert loss == pytest.approx(wanted, rel=5e-3)
    assert float((gradients - wanted_gradients).norm() / wanted_gradients.norm()) < 3e-2
