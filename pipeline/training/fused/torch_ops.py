"""The operations of a decoder layer in plain torch, one function a kernel of `triton_ops`: what runs without a GPU, and what the
kernels are held against. Attention is in `torch_attention`.

T is the number of tokens of the micro-batch, all documents one after another. "compute" is the compute dtype, bfloat16 on a GPU.
A name that ends in `_` writes over an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from pipeline.modeling.decoder_parts import Activation

MULTIPLE = 128
"""The tokens of a micro-batch are padded to a multiple of this, so that no tile of the attention kernels is cut off."""
_UINT32 = 0xFFFFFFFF  # the kernels compute in 32-bit integers that wrap around, torch here in 64


@dataclass(frozen=True)
class Dropout:
    """One mask: which features of which tokens are dropped follows from `key` and `salt` alone.

    Attributes:
        share: of the features that are dropped, from 0 to below 1.
        key: (1,) int64, on the device, where a recorded graph reads it anew at each replay; another for each micro-batch.
        salt: the place of the mask in the model, the same in every micro-batch.
    """

    share: float
    key: torch.Tensor
    salt: int

    @property
    def threshold(self) -> int:
        """A feature stays where its 24 random bits are not below this."""
        return round(self.share * (1 << 24))

    @property
    def scale(self) -> float:
        """What the features that stay are multiplied by, so that the mean stays too."""
        return 1 / (1 - self.share)


class Product(NamedTuple):
    """`left @ right`, what an adapter adds. Never whole in memory where a kernel can add it to what it reads anyway."""

    left: torch.Tensor  # (T, rank) compute
    right: torch.Tensor  # (rank, features) compute, of any strides


def dropped(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """`x` (T, features) with its mask applied and the rest scaled up, of the same shape and dtype."""
    return x * _dropout_mask(x, dropout)


def _dropout_mask(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """0 or `scale` for each feature, of the shape and dtype of `x`: bits of a 32-bit integer hash of its place in `x`.

    The hash is `lowbias32` (Wellons 2018, "Prospecting for hash functions") with the key and the salt mixed in before either
    multiplication, so that no mask is another one moved along.
    """
    key = int(dropout.key.item())
    first = (key ^ (dropout.salt * 0x9E3779B9)) & _UINT32
    second = ((key >> 32) + dropout.salt * 0x7FEB352D) & _UINT32
    bits = torch.arange(x.numel(), dtype=torch.int64, device=x.device)  # (T × features,): torch has no 32-bit unsigned product
    bits = (bits * 0x9E3779B1 + first) & _UINT32
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & _UINT32
    bits = (((bits ^ (bits >> 15)) + second) * 0x846CA68B) & _UINT32
    bits = bits ^ (bits >> 16)
    return ((bits >> 8) >= dropout.threshold).to(x.dtype).view_as(x) * dropout.scale


def add_dropped_(d: torch.Tensor, t: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """`d += mask(t)`: the gradient of `dropped`."""
    return d.add_(dropped(t, dropout))


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, dropout: Dropout | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """RMSNorm (Zhang and Sennrich 2019) of each row, computed in 32 bits: `x / sqrt(mean(x²) + eps) × weight`.

    Args:
        x: (T, hidden) in the compute dtype.
        weight: (hidden,).

    Returns:
        the normed rows (T, hidden) in the dtype of `x`; the same with dropout (the same tensor without); the reciprocal root mean
        square (T,) in 32 bits.
    """
    wide = x.float()  # (T, hidden) float32
    rstd = torch.rsqrt(wide.square().mean(-1) + eps)  # (T,) float32
    y = (wide * rstd[:, None] * weight.float()).to(x.dtype)  # (T, hidden) compute
    return y, y if dropout is None else dropped(y, dropout), rstd


def rms_norm_again(x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
    """The second of `rms_norm`'s results, (T, hidden), from its input `x` (T, hidden) and its `rstd` (T,)."""
    y = (x.float() * rstd[:, None] * weight.float()).to(x.dtype)  # (T, hidden) compute
    return y if dropout is None else dropped(y, dropout)


def rms_norm_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor,
    residual: torch.Tensor | None,
    t: torch.Tensor | None = None,
    dropout: Dropout | None = None,
) -> torch.Tensor:
    """The gradient for `x`, (T, hidden) in its dtype, plus `residual`.

    With `g = dy × weight` it is `rstd × (g - x × rstd² × mean(g × x))`: the derivative of `rms_norm` by the product rule.

    Args:
        dy: (T, hidden), the gradient for the normed rows.
        x, weight: as for `rms_norm`.
        rstd: (T,) float32, of `rms_norm`.
        residual: (T, hidden), the gradient that comes past the norm; None for none.
        t: (T, hidden), more of `dy`, for the rows after `dropout`.
    """
    g = dy.float()  # (T, hidden) float32
    if t is not None:
        g = g + (t if dropout is None else dropped(t, dropout)).float()
    wdy, wide = g * weight.float(), x.float()  # (T, hidden) float32
    mean = (wdy * wide).mean(-1, keepdim=True)  # (T, 1) float32
    dx = rstd[:, None] * (wdy - wide * rstd[:, None].square() * mean)  # (T, hidden) float32
    return (dx if residual is None else residual.float() + dx).to(x.dtype)


def add_rms_norm(residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`residual + norm(x)`, (T, hidden) in the compute dtype, and the norm's reciprocal root mean square (T,) in 32 bits.

    Args:
        residual, x: (T, hidden) in the compute dtype.
        weight, eps: as for `rms_norm`.
    """
    wide = x.float()  # (T, hidden) float32
    rstd = torch.rsqrt(wide.square().mean(-1) + eps)  # (T,) float32
    return (residual.float() + wide * rstd[:, None] * weight.float()).to(x.dtype), rstd


# GELU by tanh is `x × sigmoid(2u)` with `u = sqrt(2 / π) × (x + 0.044715 x³)`, since `(1 + tanh(u)) / 2 = sigmoid(2u)`.
_GELU, _GELU_CUBE = 1.5957691216057308, 0.044715  # 2 × sqrt(2 / π)


def glu(
    gate_up: torch.Tensor,
    gate: Product | None = None,
    up: Product | None = None,
    dropout: Dropout | None = None,
    activation: Activation = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """`activation(gate) × up` (Shazeer 2020, "GLU variants improve Transformer"), computed in 32 bits.

    Args:
        gate_up: (T, 2 × intermediate) in the compute dtype, the gate first.
        gate, up: (T, intermediate) once multiplied, to be added to either before.

    Returns:
        (T, intermediate) in the compute dtype; the same with dropout (the same tensor without).
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    sigmoid, _ = _sigmoid_and_slope(wide_gate, activation)
    y = (wide_gate * sigmoid * wide_up).to(gate_up.dtype)  # (T, intermediate) compute
    return y, y if dropout is None else dropped(y, dropout)


def glu_backward_(
    d: torch.Tensor,
    gate_up: torch.Tensor,
    gate: Product | None = None,
    up: Product | None = None,
    down: Product | None = None,
    dropout: Dropout | None = None,
    activation: Activation = "silu",
) -> torch.Tensor:
    """Writes the gradients for gate and up over `gate_up` and returns it.

    With `s = sigmoid(z)` of the activation `gate × s`, and `z'` the derivative of `z`: `d × up × s × (1 + gate × (1 - s) × z')`
    for the gate, `d × gate × s` for up.

    Args:
        d: (T, intermediate), the gradient for `glu`'s first result.
        gate_up: (T, 2 × intermediate), what `glu` read.
        gate, up, activation: as for `glu`.
        down: (T, intermediate) once multiplied, the gradient for its second result. With it, that result is written over `d`.
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    (sigmoid, slope), wide = _sigmoid_and_slope(wide_gate, activation), d.float()  # (T, intermediate) float32
    if down is not None:
        more = down.left @ down.right  # (T, intermediate) compute
        wide = wide + (more if dropout is None else dropped(more, dropout)).float()
        d.copy_(glu(gate_up, gate, up, dropout, activation)[1])
    dgate = wide * wide_up * sigmoid * (1 + wide_gate * (1 - sigmoid) * slope)  # (T, intermediate) float32
    return gate_up.copy_(torch.cat([dgate, wide * wide_gate * sigmoid], -1))


def _sigmoid_and_slope(gate: torch.Tensor, activation: Activation) -> tuple[torch.Tensor, torch.Tensor | float]:
    """What the gate is multiplied by to be activated, and the derivative of what that is the sigmoid of."""
    if activation == "silu":
        return torch.sigmoid(gate), 1.0
    square = gate.square()
    return torch.sigmoid(_GELU * gate * (1 + _GELU_CUBE * square)), _GELU * (1 + 3 * _GELU_CUBE * square)


def _gate_and_up(gate_up: torch.Tensor, gate: Product | None, up: Product | None) -> list[torch.Tensor]:
    """Both (T, intermediate) in 32 bits."""
    parts = zip(gate_up.float().chunk(2, -1), (gate, up), strict=True)
    return [x if product is None else x + product.left.float() @ product.right.float() for x, product in parts]


@dataclass(frozen=True)
class Heads:
    """The heads side by side in a row of `qkv`: `query` of them, then `key` for keys, then as many for values.

    Attributes:
        dim: features of one head.
        scale: of the scores, usually `dim ** -0.5`.
    """

    query: int
    key: int
    dim: int
    scale: float

    def split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of `qkv` (T, (query + 2 × key) × dim), each (query heads, T, dim).

        Keys and values are repeated for the query heads that share them (grouped-query attention, Ainslie et al. 2023).
        """
        wide = qkv.view(-1, self.query + 2 * self.key, self.dim).transpose(0, 1)  # (all heads, T, dim)
        q, k, v = torch.split(wide, [self.query, self.key, self.key])
        return q, k.repeat_interleave(self.query // self.key, 0), v.repeat_interleave(self.query // self.key, 0)


class Angles(NamedTuple):
    """What turns queries and keys; half is dim / 2, or less where only a head's first features are turned."""

    cos: torch.Tensor  # (T, half) compute
    sin: torch.Tensor  # (T, half) compute


def rotate_(qkv: torch.Tensor, angles: Angles, heads: Heads, *, back: bool = False) -> torch.Tensor:
    """Rotary position embedding of the queries and keys, in place; returns `qkv`.

    Features i and i + half of a head are a pair (Su et al. 2021, as transformers pairs them), those from 2 × half on stay.

    Args:
        qkv: (T, (query + 2 × key heads) × dim) in the compute dtype.
        back: by the negative angles, which undoes it: a rotation's inverse is its transpose, and that its gradient.
    """
    cos, sin = angles
    turned, half = heads.query + heads.key, cos.shape[-1]
    part = qkv[:, : turned * heads.dim].view(-1, turned, heads.dim)
    a, b = part[..., :half].float(), part[..., half : 2 * half].float()  # (T, heads, half) float32
    c, s = cos.float()[:, None], (-sin if back else sin).float()[:, None]  # (T, 1, half) float32
    part[..., :half], part[..., half : 2 * half] = (a * c - b * s).to(qkv.dtype), (b * c + a * s).to(qkv.dtype)
    return qkv


class HeadNorms(NamedTuple):
    """RMSNorm of queries and keys.

    Attributes:
        weights: (2, dim) float32, of each query head and of each key head; or (query + key heads, dim), where the mean is taken
            over all heads of queries, and over all of keys.
        eps: added to the mean square.
        whole: which of the two.
    """

    weights: torch.Tensor
    eps: float
    whole: bool


def norm_heads(qkv: torch.Tensor, heads: Heads, norms: HeadNorms, angles: Angles | None) -> torch.Tensor:
    """Queries and keys normed, then rotated, in a new tensor beside the values: of the shape and dtype of `qkv`.

    Args:
        qkv: (T, (query + 2 × key heads) × dim) in the compute dtype. Left as it is.
        angles: of all features of a head; None for no rotation.
    """
    out = qkv.clone()
    for part, x, weight in _query_and_key(qkv, heads, norms):
        out[:, part] = (x * _rstd(x, norms) * weight).to(qkv.dtype).flatten(1)
    return out if angles is None else rotate_(out, angles, heads)


def norm_heads_backward_(
    dqkv: torch.Tensor, qkv: torch.Tensor, heads: Heads, norms: HeadNorms, angles: Angles | None
) -> torch.Tensor:
    """Writes the gradient for `norm_heads`'s input over that for its output, `dqkv`, and returns it.

    Args:
        qkv: the input.
        heads, norms, angles: as for `norm_heads`.
    """
    if angles is not None:
        rotate_(dqkv, angles, heads, back=True)
    for part, x, weight in _query_and_key(qkv, heads, norms):
        rstd, wdy = _rstd(x, norms), dqkv[:, part].view_as(x).float() * weight
        mean = (wdy * x).mean((1, 2) if norms.whole else 2, keepdim=True)
        dqkv[:, part] = (rstd * (wdy - x * rstd.square() * mean)).to(dqkv.dtype).flatten(1)
    return dqkv


def _query_and_key(qkv: torch.Tensor, heads: Heads, norms: HeadNorms) -> list[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Of each: where they lie in a row; they themselves, (T, heads, dim) float32; the weights for that."""
    found, first = [], 0
    for number, count in enumerate((heads.query, heads.key)):
        weight = norms.weights[first : first + count] if norms.whole else norms.weights[number]
        part = slice(first * heads.dim, (first + count) * heads.dim)
        found.append((part, qkv[:, part].view(-1, count, heads.dim).float(), weight))
        first += count
    return found


def _rstd(x: torch.Tensor, norms: HeadNorms) -> torch.Tensor:
    return torch.rsqrt(x.square().mean((1, 2) if norms.whole else 2, keepdim=True) + norms.eps)


def cross_entropy_(
    logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, weights: torch.Tensor | None = None, *, gradient: bool
) -> torch.Tensor:
    """The loss of each row in nats, `weight × (logsumexp(logits) - logits[target])`, 0 where the target is negative: (rows,)
    float32.

    Args:
        logits: (rows, vocabulary) in the compute dtype; with `gradient` overwritten by the gradient of `scale × the sum of the
            losses`, `(softmax(logits) - one_hot(target)) × scale × weight`.
        targets: (rows,) int32.
        scale: (1,) float32.
        weights: (rows,) float32; None for ones.
    """
    wide, trained = logits.float(), targets >= 0  # (rows, vocabulary) float32, (rows,) bool
    lse = torch.logsumexp(wide, -1)  # (rows,) float32
    picked = wide.gather(1, targets.clamp(min=0)[:, None].long())[:, 0]  # (rows,) float32
    if gradient:
        d = (wide - lse[:, None]).exp()  # (rows, vocabulary) float32: the softmax
        d.scatter_add_(1, targets.clamp(min=0)[:, None].long(), torch.full_like(d[:, :1], -1.0))
        logits.copy_(d * (scale if weights is None else scale * weights[:, None]) * trained[:, None])
    losses = torch.where(trained, lse - picked, 0.0)
    return losses if weights is None else losses * weights
