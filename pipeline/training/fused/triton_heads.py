# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""What is done to queries and keys before attention, as Triton kernels: described in `torch_ops`, written as `triton_ops` is.

A row of QKV is all query heads, then all key heads, then all value heads. A program holds both halves of each head's features,
so that who writes over a pair has read it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from pipeline.training.fused.torch_ops import Angles, HeadNorms, Heads


@triton.jit
def _rotate(QKV, COS, SIN, row_width, heads, half, sign, DIM: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr):
    """A program a token and HEADS of its heads. `sign`: 1, or -1 to turn back. HALF: `half` rounded up to a power of two."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]  # (HEADS, 1)
    feature = tl.arange(0, HALF)[None, :]  # (1, HALF)
    offsets = row * row_width + head * DIM + feature  # (HEADS, HALF), of the first of each pair
    inside = (head < heads) & (feature < half)
    cos = tl.load(COS + row * half + feature, mask=feature < half, other=0.0).to(tl.float32)
    sin = tl.load(SIN + row * half + feature, mask=feature < half, other=0.0).to(tl.float32) * sign
    a = tl.load(QKV + offsets, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(QKV + offsets + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(QKV + offsets, a * cos - b * sin, mask=inside)
    tl.store(QKV + offsets + half, b * cos + a * sin, mask=inside)


def rotate_(qkv: torch.Tensor, angles: Angles, heads: Heads, *, back: bool = False) -> torch.Tensor:
    turned, (rows, half) = heads.query + heads.key, angles.cos.shape
    together = min(16, triton.next_power_of_2(turned))
    _rotate[(rows, triton.cdiv(turned, together))](
        qkv, *angles, qkv.shape[1], turned, half, -1.0 if back else 1.0,
        DIM=heads.dim, HEADS=together, HALF=triton.next_power_of_2(half),
    )  # fmt: skip
    return qkv


@triton.jit
def _norm_heads(QKV, Y, W, COS, SIN, eps,
                QUERY: tl.constexpr, KEY: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
                WHOLE: tl.constexpr, ROTATE: tl.constexpr):  # fmt: skip
    """A program a token and its queries, keys or values, which are copied. HEADS: the most of these, up to a power of two."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    heads = tl.where(part == 0, QUERY, KEY)
    first = tl.where(part == 0, 0, tl.where(part == 1, QUERY, QUERY + KEY))  # of its heads
    head = tl.arange(0, HEADS)[:, None]  # (HEADS, 1)
    feature = tl.arange(0, HALF)[None, :]  # (1, HALF)
    inside = (head < heads) & (feature < HALF)
    offsets = row * ((QUERY + 2 * KEY) * 2 * HALF) + (first + head) * (2 * HALF) + feature
    a = tl.load(QKV + offsets, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(QKV + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
    if part < 2:
        weights = W + ((first + head) if WHOLE else part) * (2 * HALF) + feature
        rstd = _rstd(a, b, heads, eps, HALF, WHOLE)
        a = a * rstd * tl.load(weights, mask=inside, other=0.0)
        b = b * rstd * tl.load(weights + HALF, mask=inside, other=0.0)
        if ROTATE:
            cos = tl.load(COS + row * HALF + feature).to(tl.float32)
            sin = tl.load(SIN + row * HALF + feature).to(tl.float32)
            turned = a * cos - b * sin
            b = b * cos + a * sin
            a = turned
    tl.store(Y + offsets, a, mask=inside)
    tl.store(Y + offsets + HALF, b, mask=inside)


@triton.jit
def _rstd(a, b, heads, eps, HALF: tl.constexpr, WHOLE: tl.constexpr):
    """(HEADS, 1), or with WHOLE (1, 1): the reciprocal root of the mean square of both halves."""
    squares = tl.sum(a * a + b * b, 1)[:, None]
    if WHOLE:
        squares = tl.sum(squares, 0)[None, :] / heads
    return 1 / tl.sqrt(squares / (2 * HALF) + eps)


def norm_heads(qkv: torch.Tensor, heads: Heads, norms: HeadNorms, angles: Angles | None) -> torch.Tensor:
    y = torch.empty_like(qkv)  # (T, (query + 2 × key heads) × dim) compute
    cos, sin = angles or (qkv, qkv)  # any tensor stands for what is not read
    _norm_heads[(qkv.shape[0], 3)](qkv, y, norms.weights, cos, sin, norms.eps, **_sizes(heads, norms, angles))
    return y


@triton.jit
def _norm_heads_backward(D, QKV, W, COS, SIN, eps,
                         QUERY: tl.constexpr, KEY: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
                         WHOLE: tl.constexpr, ROTATE: tl.constexpr):  # fmt: skip
    """A program a token and its queries or keys, of which it writes over D."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    heads = tl.where(part == 0, QUERY, KEY)
    first = tl.where(part == 0, 0, QUERY)
    head = tl.arange(0, HEADS)[:, None]
    feature = tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (feature < HALF)
    offsets = row * ((QUERY + 2 * KEY) * 2 * HALF) + (first + head) * (2 * HALF) + feature
    da = tl.load(D + offsets, mask=inside, other=0.0).to(tl.float32)
    db = tl.load(D + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
    if ROTATE:
        cos = tl.load(COS + row * HALF + feature).to(tl.float32)
        sin = tl.load(SIN + row * HALF + feature).to(tl.float32)
        back = da * cos + db * sin
        db = db * cos - da * sin
        da = back
    weights = W + ((first + head) if WHOLE else part) * (2 * HALF) + feature
    da = da * tl.load(weights, mask=inside, other=0.0)
    db = db * tl.load(weights + HALF, mask=inside, other=0.0)
    a = tl.load(QKV + offsets, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(QKV + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
    rstd = _rstd(a, b, heads, eps, HALF, WHOLE)
    mean = tl.sum(da * a + db * b, 1)[:, None] / (2 * HALF)  # (HEADS, 1)
    if WHOLE:
        mean = tl.sum(mean, 0)[None, :] / heads  # (1, 1)
    mean = mean * rstd * rstd
    tl.store(D + offsets, rstd * (da - a * mean), mask=inside)
    tl.store(D + offsets + HALF, rstd * (db - b * mean), mask=inside)


def norm_heads_backward_(
    dqkv: torch.Tensor, qkv: torch.Tensor, heads: Heads, norms: HeadNorms, angles: Angles | None
) -> torch.Tensor:
    cos, sin = angles or (qkv, qkv)
    _norm_heads_backward[(qkv.shape[0], 2)](dqkv, qkv, norms.weights, cos, sin, norms.eps, **_sizes(heads, norms, angles))
    return dqkv


def _sizes(heads: Heads, norms: HeadNorms, angles: Angles | None) -> dict[str, int]:
    most = triton.next_power_of_2(max(heads.query, heads.key))
    return {
        "QUERY": heads.query, "KEY": heads.key, "HALF": heads.dim // 2, "HEADS": most, "WHOLE": norms.whole,
        "ROTATE": angles is not None, "num_warps": min(8, max(1, most * heads.dim // 512)),
    }  # fmt: skip
