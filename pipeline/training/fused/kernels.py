# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""The operations of `reference` as Triton kernels, for NVIDIA GPUs: same names, same arguments, same results.

Triton comes with torch's CUDA builds. Each kernel reads and writes memory once, and every sum has a fixed order: the same inputs
give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from pipeline.training.fused.reference import Dropout

_TILE = 1024


@triton.jit
def _kept(places, key, salt, threshold, scale):
    """See `reference._kept`."""
    first = key.to(tl.uint32) ^ (salt.to(tl.uint32) * 0x9E3779B9)
    second = (key >> 32).to(tl.uint32) + salt.to(tl.uint32) * 0x7FEB352D
    bits = places.to(tl.uint32) * 0x9E3779B1 + first
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = ((bits ^ (bits >> 15)) + second) * 0x846CA68B
    bits = bits ^ (bits >> 16)
    return tl.where((bits >> 8).to(tl.int32) >= threshold, scale, 0.0)


def _mask(dropout: Dropout | None, like: torch.Tensor) -> tuple[Any, ...]:
    """A kernel's arguments about dropout; any tensor stands for the key where there is none."""
    return (like, 0, 0, 1.0) if dropout is None else (dropout.key, dropout.salt, dropout.threshold, dropout.scale)


# ------------------------------------------------------------------------------------------------------ dropout


@triton.jit(do_not_specialize=["salt", "threshold"])
def _dropped(X, Y, KEY, salt, threshold, scale, size, TILE: tl.constexpr):
    places = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = places < size
    x = tl.load(X + places, mask=inside).to(tl.float32)
    tl.store(Y + places, x * _kept(places, tl.load(KEY), salt, threshold, scale), mask=inside)


def dropped(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    y = torch.empty_like(x)
    _dropped[(triton.cdiv(x.numel(), _TILE),)](x, y, *_mask(dropout, x), x.numel(), TILE=_TILE)
    return y


@triton.jit(do_not_specialize=["salt", "threshold"])
def _add_dropped(D, T, KEY, salt, threshold, scale, size, TILE: tl.constexpr):
    places = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = places < size
    t = tl.load(T + places, mask=inside).to(tl.float32) * _kept(places, tl.load(KEY), salt, threshold, scale)
    tl.store(D + places, tl.load(D + places, mask=inside).to(tl.float32) + t, mask=inside)


def add_dropped_(d: torch.Tensor, t: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    _add_dropped[(triton.cdiv(d.numel(), _TILE),)](d, t, *_mask(dropout, d), d.numel(), TILE=_TILE)
    return d


# ----------------------------------------------------------------------------------------------------- RMS norm


@triton.jit(do_not_specialize=["salt", "threshold"])
def _rms_norm(X, W, RSTD, Y, YD, KEY, salt, threshold, scale, hidden, eps,
              AGAIN: tl.constexpr, WRITE: tl.constexpr, DROP: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < hidden
    x = tl.load(X + row * hidden + columns, mask=inside, other=0.0).to(tl.float32)
    if AGAIN:
        rstd = tl.load(RSTD + row)
    else:
        rstd = 1 / tl.sqrt(tl.sum(x * x) / hidden + eps)
        tl.store(RSTD + row, rstd)
    y = (x * rstd * tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)).to(Y.dtype.element_ty)
    places = row * hidden + columns
    if WRITE:
        tl.store(Y + places, y, mask=inside)
    if DROP:
        tl.store(YD + places, y.to(tl.float32) * _kept(places, tl.load(KEY), salt, threshold, scale), mask=inside)


def _launch_rms_norm(
    x: torch.Tensor, w: torch.Tensor, rstd: torch.Tensor, eps: float, dropout: Dropout | None, *, again: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, hidden = x.shape
    drop, write = dropout is not None, dropout is None or not again
    y = torch.empty_like(x) if write else x
    yd = torch.empty_like(x) if drop else y
    width = triton.next_power_of_2(hidden)
    _rms_norm[(rows,)](
        x, w, rstd, y, yd, *_mask(dropout, x), hidden, eps,
        AGAIN=again, WRITE=write, DROP=drop, WIDTH=width, num_warps=_warps(width),
    )  # fmt: skip
    return y, yd


def _warps(width: int) -> int:
    return min(8, max(1, width // 512))


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, dropout: Dropout | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rstd = torch.empty(x.shape[0], dtype=torch.float32, device=x.device)
    return *_launch_rms_norm(x, weight, rstd, eps, dropout, again=False), rstd


def rms_norm_again(x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
    return _launch_rms_norm(x, weight, rstd, 0.0, dropout, again=True)[1]


@triton.jit(do_not_specialize=["salt", "threshold"])
def _rms_norm_backward(DY, T, X, RSTD, W, RESIDUAL, DX, KEY, salt, threshold, scale, hidden,
                       MORE: tl.constexpr, DROP: tl.constexpr, ADD: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < hidden
    places = row * hidden + columns
    g = tl.load(DY + places, mask=inside, other=0.0).to(tl.float32)
    if MORE:
        t = tl.load(T + places, mask=inside, other=0.0).to(tl.float32)
        g += t * _kept(places, tl.load(KEY), salt, threshold, scale) if DROP else t
    x = tl.load(X + places, mask=inside, other=0.0).to(tl.float32)
    rstd = tl.load(RSTD + row)
    wdy = g * tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    dx = rstd * (wdy - x * (rstd * rstd * tl.sum(wdy * x) / hidden))
    if ADD:
        dx += tl.load(RESIDUAL + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(DX + places, dx, mask=inside)


def rms_norm_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor,
    residual: torch.Tensor | None,
    t: torch.Tensor | None = None,
    dropout: Dropout | None = None,
) -> torch.Tensor:
    rows, hidden = x.shape
    dx, width = torch.empty_like(x), triton.next_power_of_2(hidden)
    _rms_norm_backward[(rows,)](
        dy, dy if t is None else t, x, rstd, weight, dy if residual is None else residual, dx, *_mask(dropout, x), hidden,
        MORE=t is not None, DROP=dropout is not None, ADD=residual is not None, WIDTH=width, num_warps=_warps(width),
    )  # fmt: skip
    return dx


# ------------------------------------------------------------------------------------------------------- SwiGLU


@triton.jit
def _swiglu(GATE_UP, Y, width, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    gate = tl.load(GATE_UP + row * 2 * width + columns, mask=inside).to(tl.float32)
    up = tl.load(GATE_UP + row * 2 * width + width + columns, mask=inside).to(tl.float32)
    tl.store(Y + row * width + columns, gate * tl.sigmoid(gate) * up, mask=inside)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    y = gate_up.new_empty(rows, width)
    _swiglu[(rows, triton.cdiv(width, _TILE))](gate_up, y, width, TILE=_TILE)
    return y


@triton.jit(do_not_specialize=["salt", "threshold"])
def _swiglu_backward(D, GATE_UP, KEY, salt, threshold, scale, width, AGAIN: tl.constexpr, DROP: tl.constexpr, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    places = row * 2 * width + columns
    gate = tl.load(GATE_UP + places, mask=inside).to(tl.float32)
    up = tl.load(GATE_UP + places + width, mask=inside).to(tl.float32)
    d = tl.load(D + row * width + columns, mask=inside).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    tl.store(GATE_UP + places, d * up * sigmoid * (1 + gate * (1 - sigmoid)), mask=inside)
    tl.store(GATE_UP + places + width, d * gate * sigmoid, mask=inside)
    if AGAIN:
        y = (gate * sigmoid * up).to(D.dtype.element_ty)
        if DROP:
            y = y.to(tl.float32) * _kept(row * width + columns, tl.load(KEY), salt, threshold, scale)
        tl.store(D + row * width + columns, y, mask=inside)


def swiglu_backward_(
    d: torch.Tensor, gate_up: torch.Tensor, dropout: Dropout | None = None, *, again: bool = False
) -> torch.Tensor:
    rows, width = d.shape
    _swiglu_backward[(rows, triton.cdiv(width, _TILE))](
        d, gate_up, *_mask(dropout, d), width, AGAIN=again, DROP=dropout is not None, TILE=_TILE
    )
    return gate_up


# ------------------------------------------------------------------------------------------- rotary embedding


@triton.jit
def _rotate(QKV, COS, SIN, row_width, heads, sign, HEADS: tl.constexpr, HALF: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    feature = tl.arange(0, HALF)[None, :]
    places = row * row_width + head * (2 * HALF) + feature
    inside = head < heads
    cos = tl.load(COS + row * HALF + feature).to(tl.float32)
    sin = tl.load(SIN + row * HALF + feature).to(tl.float32) * sign
    a = tl.load(QKV + places, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(QKV + places + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(QKV + places, a * cos - b * sin, mask=inside)
    tl.store(QKV + places + HALF, b * cos + a * sin, mask=inside)


def rotate_(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, *, back: bool = False) -> torch.Tensor:
    rows, half = cos.shape
    together = min(16, triton.next_power_of_2(heads))
    grid = (rows, triton.cdiv(heads, together))
    _rotate[grid](qkv, cos, sin, qkv.shape[1], heads, -1.0 if back else 1.0, HEADS=together, HALF=half)
    return qkv


# ----------------------------------------------------------------------------------------------- cross entropy


@triton.jit
def _cross_entropy(LOGITS, TARGETS, LOSSES, SCALE, vocabulary, GRADIENT: tl.constexpr, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(TARGETS + row)
    columns = tl.arange(0, TILE)
    if target < 0:
        tl.store(LOSSES + row, 0.0)
        if GRADIENT:
            for start in range(0, vocabulary, TILE):
                inside = start + columns < vocabulary
                tl.store(LOGITS + row * vocabulary + start + columns, tl.zeros((TILE,), tl.float32), mask=inside)
    else:
        largest = tl.full((TILE,), -1e30, tl.float32)
        total = tl.zeros((TILE,), tl.float32)
        for start in range(0, vocabulary, TILE):
            x = tl.load(LOGITS + row * vocabulary + start + columns, mask=start + columns < vocabulary, other=-1e30).to(
                tl.float32
            )
            larger = tl.maximum(largest, x)
            total = total * tl.exp(largest - larger) + tl.exp(x - larger)
            largest = larger
        most = tl.max(largest)
        lse = most + tl.log(tl.sum(total * tl.exp(largest - most)))
        tl.store(LOSSES + row, lse - tl.load(LOGITS + row * vocabulary + target).to(tl.float32))
        if GRADIENT:
            scale = tl.load(SCALE)
            for start in range(0, vocabulary, TILE):
                inside = start + columns < vocabulary
                x = tl.load(LOGITS + row * vocabulary + start + columns, mask=inside, other=-1e30).to(tl.float32)
                d = (tl.exp(x - lse) - tl.where(start + columns == target, 1.0, 0.0)) * scale
                tl.store(LOGITS + row * vocabulary + start + columns, d, mask=inside)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, *, gradient: bool) -> torch.Tensor:
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    tile = min(4096, triton.next_power_of_2(vocabulary))
    _cross_entropy[(rows,)](logits, targets, losses, scale, vocabulary, GRADIENT=gradient, TILE=tile, num_warps=8)
    return losses
