# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""The operations of `torch_ops` as Triton kernels, for NVIDIA GPUs: same names, same arguments, same results; described there.

Triton comes with torch's CUDA builds. Each kernel reads and writes memory once, and every sum has a fixed order: the same inputs
give the same bits.

In the kernels a name in capitals is a pointer, or with `tl.constexpr` a constant they are compiled for; `X + offsets` points to
the numbers of a tile. Sums are float32, rounded to a tensor's dtype where they are stored. `salt` and `threshold` are not
specialized: Triton would compile a kernel anew for values that are 1 or divisible by 16.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from pipeline.modeling.decoder_parts import Activation
from pipeline.training.fused.torch_ops import Dropout, Product
from pipeline.training.fused.triton_heads import norm_heads, norm_heads_backward_, rotate_

__all__ = [
    "add_dropped_", "add_rms_norm", "cross_entropy_", "dropped", "glu", "glu_backward_", "norm_heads", "norm_heads_backward_",
    "rms_norm", "rms_norm_again", "rms_norm_backward", "rotate_",
]  # fmt: skip

_TILE = 1024  # numbers a program, of the kernels without rows


@triton.jit
def _dropout_mask(offsets, key, salt, threshold, scale):
    """See `torch_ops._dropout_mask`: 0 or `scale`, float32, of the shape of `offsets`."""
    first = key.to(tl.uint32) ^ (salt.to(tl.uint32) * 0x9E3779B9)
    second = (key >> 32).to(tl.uint32) + salt.to(tl.uint32) * 0x7FEB352D
    bits = offsets.to(tl.uint32) * 0x9E3779B1 + first
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = ((bits ^ (bits >> 15)) + second) * 0x846CA68B
    bits = bits ^ (bits >> 16)
    return tl.where((bits >> 8).to(tl.int32) >= threshold, scale, 0.0)


def _dropout_arguments(dropout: Dropout | None, like: torch.Tensor) -> tuple[Any, ...]:
    """A kernel's arguments about dropout; any tensor stands for the key where there is none."""
    return (like, 0, 0, 1.0) if dropout is None else (dropout.key, dropout.salt, dropout.threshold, dropout.scale)


# ------------------------------------------------------------------------------------------------------ dropout


@triton.jit(do_not_specialize=["salt", "threshold"])
def _dropped(X, Y, KEY, salt, threshold, scale, size, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = offsets < size
    x = tl.load(X + offsets, mask=inside).to(tl.float32)
    tl.store(Y + offsets, x * _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale), mask=inside)


def dropped(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    y = torch.empty_like(x)
    _dropped[(triton.cdiv(x.numel(), _TILE),)](x, y, *_dropout_arguments(dropout, x), x.numel(), TILE=_TILE)
    return y


@triton.jit(do_not_specialize=["salt", "threshold"])
def _add_dropped(D, T, KEY, salt, threshold, scale, size, TILE: tl.constexpr):
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = offsets < size
    t = tl.load(T + offsets, mask=inside).to(tl.float32) * _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale)
    tl.store(D + offsets, tl.load(D + offsets, mask=inside).to(tl.float32) + t, mask=inside)


def add_dropped_(d: torch.Tensor, t: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    _add_dropped[(triton.cdiv(d.numel(), _TILE),)](d, t, *_dropout_arguments(dropout, d), d.numel(), TILE=_TILE)
    return d


# ----------------------------------------------------------------------------------------------------- RMS norm


@triton.jit(do_not_specialize=["salt", "threshold"])
def _rms_norm(X, W, RSTD, Y, YD, KEY, salt, threshold, scale, hidden, eps,
              AGAIN: tl.constexpr, WRITE: tl.constexpr, DROP: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """A program a row. Y is written with WRITE, YD (the same after dropout) with DROP; RSTD is read with AGAIN, else written."""
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)  # WIDTH: `hidden` rounded up to a power of two, which `tl.arange` asks for
    inside = columns < hidden
    x = tl.load(X + row * hidden + columns, mask=inside, other=0.0).to(tl.float32)  # (WIDTH,)
    if AGAIN:
        rstd = tl.load(RSTD + row)
    else:
        rstd = 1 / tl.sqrt(tl.sum(x * x) / hidden + eps)
        tl.store(RSTD + row, rstd)
    y = (x * rstd * tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)).to(Y.dtype.element_ty)
    offsets = row * hidden + columns
    if WRITE:
        tl.store(Y + offsets, y, mask=inside)
    if DROP:
        tl.store(YD + offsets, y.to(tl.float32) * _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale), mask=inside)


def _launch_rms_norm(
    x: torch.Tensor, w: torch.Tensor, rstd: torch.Tensor, eps: float, dropout: Dropout | None, *, again: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, hidden = x.shape
    drop, write = dropout is not None, dropout is None or not again
    y = torch.empty_like(x) if write else x  # (T, hidden) compute; not written, any tensor stands for it
    yd = torch.empty_like(x) if drop else y  # (T, hidden) compute
    width = triton.next_power_of_2(hidden)
    _rms_norm[(rows,)](
        x, w, rstd, y, yd, *_dropout_arguments(dropout, x), hidden, eps,
        AGAIN=again, WRITE=write, DROP=drop, WIDTH=width, num_warps=_warps(width),
    )  # fmt: skip
    return y, yd


def _warps(width: int) -> int:
    return min(8, max(1, width // 512))


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, dropout: Dropout | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rstd = torch.empty(x.shape[0], dtype=torch.float32, device=x.device)  # (T,)
    return *_launch_rms_norm(x, weight, rstd, eps, dropout, again=False), rstd


def rms_norm_again(x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
    return _launch_rms_norm(x, weight, rstd, 0.0, dropout, again=True)[1]


@triton.jit(do_not_specialize=["salt", "threshold"])
def _rms_norm_backward(DY, T, X, RSTD, W, RESIDUAL, DX, KEY, salt, threshold, scale, hidden,
                       MORE: tl.constexpr, DROP: tl.constexpr, ADD: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """A program a row. `T` is read with MORE and masked with DROP, RESIDUAL read with ADD."""
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < hidden
    offsets = row * hidden + columns
    g = tl.load(DY + offsets, mask=inside, other=0.0).to(tl.float32)
    if MORE:
        t = tl.load(T + offsets, mask=inside, other=0.0).to(tl.float32)
        g += t * _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale) if DROP else t
    x = tl.load(X + offsets, mask=inside, other=0.0).to(tl.float32)
    rstd = tl.load(RSTD + row)
    wdy = g * tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    dx = rstd * (wdy - x * (rstd * rstd * tl.sum(wdy * x) / hidden))
    if ADD:
        dx += tl.load(RESIDUAL + offsets, mask=inside, other=0.0).to(tl.float32)
    tl.store(DX + offsets, dx, mask=inside)


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
    dx, width = torch.empty_like(x), triton.next_power_of_2(hidden)  # (T, hidden) compute
    _rms_norm_backward[(rows,)](
        dy, dy if t is None else t, x, rstd, weight, dy if residual is None else residual, dx,
        *_dropout_arguments(dropout, x), hidden,
        MORE=t is not None, DROP=dropout is not None, ADD=residual is not None, WIDTH=width, num_warps=_warps(width),
    )  # fmt: skip
    return dx


@triton.jit
def _add_rms_norm(RESIDUAL, X, W, RSTD, Y, hidden, eps, WIDTH: tl.constexpr):
    """A program a row."""
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < hidden
    offsets = row * hidden + columns
    x = tl.load(X + offsets, mask=inside, other=0.0).to(tl.float32)
    rstd = 1 / tl.sqrt(tl.sum(x * x) / hidden + eps)
    tl.store(RSTD + row, rstd)
    y = tl.load(RESIDUAL + offsets, mask=inside, other=0.0).to(tl.float32)
    y += x * rstd * tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(Y + offsets, y, mask=inside)


def add_rms_norm(residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    rows, hidden = x.shape
    y, rstd = torch.empty_like(x), torch.empty(rows, dtype=torch.float32, device=x.device)  # (T, hidden) compute, (T,)
    width = triton.next_power_of_2(hidden)
    _add_rms_norm[(rows,)](residual, x, weight, rstd, y, hidden, eps, WIDTH=width, num_warps=_warps(width))
    return y, rstd


# -------------------------------------------------------------------------------------------------- gated units


@triton.jit
def _add_product(x, LEFT, RIGHT, left_row, right_row, right_column, rank, rows, columns, height, width, RANKS: tl.constexpr):
    """`x`, a tile in 32 bits, plus its part of a `Product` of (height, rank) and (rank, width), RANKS of the ranks at once."""
    for start in range(0, rank, RANKS):
        ranks = start + tl.arange(0, RANKS)
        left = tl.load(
            LEFT + rows[:, None] * left_row + ranks[None, :],
            mask=(rows[:, None] < height) & (ranks[None, :] < rank), other=0.0,
        )  # fmt: skip
        right = tl.load(
            RIGHT + ranks[:, None] * right_row + columns[None, :] * right_column,
            mask=(ranks[:, None] < rank) & (columns[None, :] < width), other=0.0,
        )  # fmt: skip
        x = tl.dot(left, right, x, input_precision="ieee")  # "ieee": inputs in float32 are not rounded to TF32's 10 bits
    return x


def _product_arguments(product: Product | None, like: torch.Tensor) -> tuple[Any, ...]:
    """A kernel's arguments about a product; any tensor stands for it where there is none."""
    if product is None:
        return (like, like, 0, 0, 0, 0)
    left, right = product
    return (left, right, left.stride(0), *right.stride(), left.shape[1])  # pointers, strides in numbers, rank


@triton.jit
def _sigmoid_and_slope(gate, GELU: tl.constexpr):
    """See `torch_ops._sigmoid_and_slope`, both of the shape of `gate`, float32."""
    slope = tl.full(gate.shape, 1.0, tl.float32)
    z = gate
    if GELU:
        square = gate * gate
        z = 1.5957691216057308 * gate * (1 + 0.044715 * square)
        slope = 1.5957691216057308 * (1 + 0.134145 * square)
    return tl.sigmoid(z), slope


@triton.jit(do_not_specialize=["salt", "threshold"])
def _glu(GATE_UP, Y, YD, GL, GR, gl, gr, gc, gate_rank, UL, UR, ul, ur, uc, up_rank,
         KEY, salt, threshold, scale, height, width,
         GATE: tl.constexpr, UP: tl.constexpr, DROP: tl.constexpr, GELU: tl.constexpr,
         RANKS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """A program a tile of `Y` (height, width). G and U: the products added to gate and up, left, right and strides."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)  # 64 bits: a row times its width may exceed 32
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows[:, None] < height) & (columns[None, :] < width)
    offsets = rows[:, None] * width + columns[None, :]  # (ROWS, COLUMNS)
    gate_offsets = offsets + rows[:, None] * width  # a row of GATE_UP is 2 × width, the gate first
    gate = tl.load(GATE_UP + gate_offsets, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(GATE_UP + gate_offsets + width, mask=inside, other=0.0).to(tl.float32)
    if GATE:
        gate = _add_product(gate, GL, GR, gl, gr, gc, gate_rank, rows, columns, height, width, RANKS)
    if UP:
        up = _add_product(up, UL, UR, ul, ur, uc, up_rank, rows, columns, height, width, RANKS)
    sigmoid, _ = _sigmoid_and_slope(gate, GELU)
    y = (gate * sigmoid * up).to(Y.dtype.element_ty)
    tl.store(Y + offsets, y, mask=inside)
    if DROP:
        tl.store(YD + offsets, y.to(tl.float32) * _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale), mask=inside)


# Tiles, tokens × features; the backward kernel holds more of them at once.
_GLU_ROWS, _GLU_BACKWARD_ROWS, _GLU_COLUMNS = 32, 16, 128


def _tiles(rows: int, height: int, width: int, *products: Product | None) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid, and the tile of a program with how many ranks it takes at once: at least 16, the least that `tl.dot` takes."""
    rank = max((product.left.shape[1] for product in products if product), default=0)
    tile = {"RANKS": max(16, min(64, triton.next_power_of_2(rank))), "ROWS": rows, "COLUMNS": _GLU_COLUMNS, "num_warps": 4}
    return (triton.cdiv(height, rows), triton.cdiv(width, _GLU_COLUMNS)), tile


def glu(
    gate_up: torch.Tensor,
    gate: Product | None = None,
    up: Product | None = None,
    dropout: Dropout | None = None,
    activation: Activation = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = gate_up.shape[0], gate_up.shape[1] // 2
    y = gate_up.new_empty(height, width)  # (T, intermediate) compute
    yd = y if dropout is None else torch.empty_like(y)  # (T, intermediate) compute
    grid, tile = _tiles(_GLU_ROWS, height, width, gate, up)
    _glu[grid](
        gate_up, y, yd, *_product_arguments(gate, y), *_product_arguments(up, y), *_dropout_arguments(dropout, y), height, width,
        GATE=gate is not None, UP=up is not None, DROP=dropout is not None, GELU=activation == "gelu_tanh", **tile,
    )  # fmt: skip
    return y, yd


@triton.jit(do_not_specialize=["salt", "threshold"])
def _glu_backward(D, GATE_UP, GL, GR, gl, gr, gc, gate_rank, UL, UR, ul, ur, uc, up_rank, DL, DR, dl, dr, dc, down_rank,
                  KEY, salt, threshold, scale, height, width,
                  GATE: tl.constexpr, UP: tl.constexpr, DOWN: tl.constexpr, DROP: tl.constexpr, GELU: tl.constexpr,
                  RANKS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """A program a tile of D (height, width). With DOWN a third product is added to D, and the activated gate written there."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows[:, None] < height) & (columns[None, :] < width)
    offsets = rows[:, None] * width + columns[None, :]  # (ROWS, COLUMNS)
    gate_offsets = offsets + rows[:, None] * width
    gate = tl.load(GATE_UP + gate_offsets, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(GATE_UP + gate_offsets + width, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(D + offsets, mask=inside, other=0.0).to(tl.float32)
    if GATE:
        gate = _add_product(gate, GL, GR, gl, gr, gc, gate_rank, rows, columns, height, width, RANKS)
    if UP:
        up = _add_product(up, UL, UR, ul, ur, uc, up_rank, rows, columns, height, width, RANKS)
    sigmoid, slope = _sigmoid_and_slope(gate, GELU)
    if DOWN:
        more = tl.zeros((ROWS, COLUMNS), tl.float32)
        more = _add_product(more, DL, DR, dl, dr, dc, down_rank, rows, columns, height, width, RANKS)
        y = (gate * sigmoid * up).to(D.dtype.element_ty)
        if DROP:
            drop = _dropout_mask(offsets, tl.load(KEY), salt, threshold, scale)
            more *= drop
            y = y.to(tl.float32) * drop
        d += more
        tl.store(D + offsets, y, mask=inside)
    tl.store(GATE_UP + gate_offsets, d * up * sigmoid * (1 + gate * (1 - sigmoid) * slope), mask=inside)
    tl.store(GATE_UP + gate_offsets + width, d * gate * sigmoid, mask=inside)


def glu_backward_(
    d: torch.Tensor,
    gate_up: torch.Tensor,
    gate: Product | None = None,
    up: Product | None = None,
    down: Product | None = None,
    dropout: Dropout | None = None,
    activation: Activation = "silu",
) -> torch.Tensor:
    height, width = d.shape
    grid, tile = _tiles(_GLU_BACKWARD_ROWS, height, width, gate, up, down)
    _glu_backward[grid](
        d, gate_up, *_product_arguments(gate, d), *_product_arguments(up, d), *_product_arguments(down, d),
        *_dropout_arguments(dropout, d), height, width,
        GATE=gate is not None, UP=up is not None, DOWN=down is not None, DROP=dropout is not None,
        GELU=activation == "gelu_tanh", **tile,
    )  # fmt: skip
    return gate_up


# ----------------------------------------------------------------------------------------------- cross entropy


@triton.jit
def _cross_entropy(
    LOGITS, TARGETS, LOSSES, SCALE, WEIGHTS, vocabulary, GRADIENT: tl.constexpr, WEIGHTED: tl.constexpr, TILE: tl.constexpr
):
    """A program a row. One pass finds the softmax's denominator with a running maximum (Milakov and Gimelshein 2018), one of both
    for each place of the tile; with GRADIENT a second writes the gradient over the logits."""
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
            total = total * tl.exp(largest - larger) + tl.exp(x - larger)  # (TILE,)
            largest = larger
        most = tl.max(largest)
        lse = most + tl.log(tl.sum(total * tl.exp(largest - most)))
        loss = lse - tl.load(LOGITS + row * vocabulary + target).to(tl.float32)
        if WEIGHTED:
            loss = loss * tl.load(WEIGHTS + row)
        tl.store(LOSSES + row, loss)
        if GRADIENT:
            scale = tl.load(SCALE)
            if WEIGHTED:
                scale = scale * tl.load(WEIGHTS + row)
            for start in range(0, vocabulary, TILE):
                inside = start + columns < vocabulary
                x = tl.load(LOGITS + row * vocabulary + start + columns, mask=inside, other=-1e30).to(tl.float32)
                d = (tl.exp(x - lse) - tl.where(start + columns == target, 1.0, 0.0)) * scale
                tl.store(LOGITS + row * vocabulary + start + columns, d, mask=inside)


def cross_entropy_(
    logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, weights: torch.Tensor | None = None, *, gradient: bool
) -> torch.Tensor:
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)  # (rows,)
    tile = min(4096, triton.next_power_of_2(vocabulary))
    weighted = weights is not None
    _cross_entropy[(rows,)](
        logits, targets, losses, scale, weights if weighted else scale, vocabulary,
        GRADIENT=gradient, WEIGHTED=weighted, TILE=tile, num_warps=8,
    )  # fmt: skip
    return losses
