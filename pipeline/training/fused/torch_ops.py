"""The operations of a decoder layer in plain torch, one function a kernel of `triton_ops` and `triton_attention`: what runs
without a GPU, and what the kernels are held against.

T is the number of tokens of the micro-batch, all documents one after another. `doc_start` and `doc_end` (T,) int32 hold for each
token the index of its document's first token and the index behind its last. "compute" is the compute dtype, bfloat16 on a GPU.
A name that ends in `_` writes over an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

MULTIPLE = 128
"""The tokens of a micro-batch are padded to a multiple of this, so that no tile of the attention kernels is cut off."""
_UINT32 = 0xFFFFFFFF  # the kernels compute in 32-bit integers that wrap around, torch here in 64
_LOG2_E = 1.4426950408889634  # from nats to base 2, in which the kernels take exponentials


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


def swiglu(
    gate_up: torch.Tensor, gate: Product | None = None, up: Product | None = None, dropout: Dropout | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`silu(gate) × up` (Shazeer 2020, "GLU variants improve Transformer"), computed in 32 bits.

    Args:
        gate_up: (T, 2 × intermediate) in the compute dtype, the gate first.
        gate, up: (T, intermediate) once multiplied, to be added to either before.

    Returns:
        (T, intermediate) in the compute dtype; the same with dropout (the same tensor without).
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    y = (functional.silu(wide_gate) * wide_up).to(gate_up.dtype)  # (T, intermediate) compute
    return y, y if dropout is None else dropped(y, dropout)


def swiglu_backward_(
    d: torch.Tensor,
    gate_up: torch.Tensor,
    gate: Product | None = None,
    up: Product | None = None,
    down: Product | None = None,
    dropout: Dropout | None = None,
) -> torch.Tensor:
    """Writes the gradients for gate and up over `gate_up` and returns it.

    With `s = sigmoid(gate)`: `d × up × s × (1 + gate × (1 - s))` for the gate, `d × gate × s` for up.

    Args:
        d: (T, intermediate), the gradient for `swiglu`'s first result.
        gate_up: (T, 2 × intermediate), what `swiglu` read.
        gate, up: as for `swiglu`.
        down: (T, intermediate) once multiplied, the gradient for its second result. With it, that result is written over `d`.
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    sigmoid, wide = torch.sigmoid(wide_gate), d.float()  # (T, intermediate) float32
    if down is not None:
        more = down.left @ down.right  # (T, intermediate) compute
        wide = wide + (more if dropout is None else dropped(more, dropout)).float()
        d.copy_(swiglu(gate_up, gate, up, dropout)[1])
    return gate_up.copy_(torch.cat([wide * wide_up * sigmoid * (1 + wide_gate * (1 - sigmoid)), wide * wide_gate * sigmoid], -1))


def _gate_and_up(gate_up: torch.Tensor, gate: Product | None, up: Product | None) -> list[torch.Tensor]:
    """Both (T, intermediate) in 32 bits."""
    parts = zip(gate_up.float().chunk(2, -1), (gate, up), strict=True)
    return [x if product is None else x + product.left.float() @ product.right.float() for x, product in parts]


def rotate_(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, *, back: bool = False) -> torch.Tensor:
    """Rotary position embedding of the first `heads` heads, in place; returns `qkv`.

    Args:
        qkv: (T, at least heads × head_dim) in the compute dtype.
        cos, sin: (T, head_dim / 2); features i and i + head_dim / 2 are a pair (Su et al. 2021, as transformers pairs them).
        heads: of queries and keys together.
        back: by the negative angles, which undoes it: a rotation's inverse is its transpose, and that its gradient.
    """
    half = cos.shape[-1]
    part = qkv[:, : heads * 2 * half].view(-1, heads, 2, half)
    a, b = part[:, :, 0].float(), part[:, :, 1].float()  # (T, heads, head_dim / 2) float32
    c, s = cos.float()[:, None], (-sin if back else sin).float()[:, None]  # (T, 1, head_dim / 2) float32
    part[:, :, 0], part[:, :, 1] = (a * c - b * s).to(qkv.dtype), (b * c + a * s).to(qkv.dtype)
    return qkv


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


def attend(qkv: torch.Tensor, heads: Heads, doc_start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention within each document: `softmax(q kᵀ × scale) v` over the keys from its first token to the query.

    Args:
        qkv: (T, (query + 2 × key heads) × dim) in the compute dtype, rotated.
        doc_start: (T,) int32.

    Returns:
        (T, query heads × dim) in the compute dtype; the logarithm to base 2 of the softmax's denominators (query heads, T) in
        32 bits.
    """
    q, k, v = heads.split(qkv)
    scores = _scores(q, k, heads, doc_start)
    lse = torch.logsumexp(scores, -1)  # (query heads, T) float32, nats
    out = (scores - lse[..., None]).exp().to(qkv.dtype) @ v  # (query heads, T, dim) compute
    return out.transpose(0, 1).reshape(qkv.shape[0], -1), lse * _LOG2_E


def attend_backward(
    d: torch.Tensor,
    qkv: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: Heads,
    doc_start: torch.Tensor,
    doc_end: torch.Tensor,
) -> torch.Tensor:
    """The gradient for `qkv`, of its shape and dtype.

    As flash attention computes it (Dao et al. 2022, appendix B): the probabilities again from the denominators, and `delta`, the
    sum of gradient × output over a head's features, in place of the softmax's own backward pass.

    Args:
        d: (T, query heads × dim), the gradient for `attend`'s first result.
        qkv, doc_start: as for `attend`.
        out, lse: its results.
        doc_end: (T,) int32, where the kernels' loop over queries ends; not needed here.
    """
    q, k, v = heads.split(qkv)
    tokens, group = qkv.shape[0], heads.query // heads.key
    p = (_scores(q, k, heads, doc_start) - lse[..., None] / _LOG2_E).exp()  # (query heads, T, T) float32
    dout = d.view(tokens, heads.query, heads.dim).transpose(0, 1)  # (query heads, T, dim) compute
    delta = (d.float() * out.float()).view(tokens, heads.query, heads.dim).sum(-1).transpose(0, 1)  # (query heads, T) float32
    ds = (p * ((dout @ v.transpose(1, 2)).float() - delta[..., None])).to(qkv.dtype)  # (query heads, T, T) compute
    # (query heads, T, dim) compute
    dq, dk, dv = ds @ k * heads.scale, ds.transpose(1, 2) @ q * heads.scale, p.to(qkv.dtype).transpose(1, 2) @ dout
    # (key heads, T, dim) compute: the query heads that share a key add up
    dk, dv = (each.view(heads.key, group, tokens, heads.dim).sum(1) for each in (dk, dv))
    return torch.cat([dq, dk, dv]).transpose(0, 1).reshape(tokens, -1)


def _scores(q: torch.Tensor, k: torch.Tensor, heads: Heads, doc_start: torch.Tensor) -> torch.Tensor:
    """(query heads, T, T) float32, minus infinity where a query does not see a key."""
    places = torch.arange(doc_start.numel(), device=doc_start.device)  # (T,)
    seen = (places[None, :] <= places[:, None]) & (places[None, :] >= doc_start[:, None])  # (queries, keys) bool
    return ((q @ k.transpose(1, 2)).float() * heads.scale).masked_fill(~seen, -torch.inf)


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
