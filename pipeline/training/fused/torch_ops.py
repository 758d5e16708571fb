"""The operations of a decoder layer in plain torch, one function a kernel of `kernels`: what runs without a GPU, and what the
kernels are held against.

T is the number of tokens of the micro-batch, all documents one after another. `first` and `last` (T,) int32 hold for each token
where its document begins and the place behind its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

MULTIPLE = 128
"""The tokens of a micro-batch are padded to a multiple of this, so that no tile of the attention kernels is cut off."""
_UINT32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Dropout:
    """One mask: which features of which tokens are dropped follows from `key` and `salt` alone.

    Attributes:
        share: of the features that are dropped.
        key: (1,) int64, on the device; new for each micro-batch.
        salt: the place of the mask in the model.
    """

    share: float
    key: torch.Tensor
    salt: int

    @property
    def threshold(self) -> int:
        """A feature is kept where its 24 random bits are not below this."""
        return round(self.share * (1 << 24))

    @property
    def scale(self) -> float:
        return 1 / (1 - self.share)


class Product(NamedTuple):
    """`left @ right`, what an adapter adds: (T, rank) and (rank, features). Never whole in memory where a kernel can add it to
    what it reads anyway."""

    left: torch.Tensor
    right: torch.Tensor


def dropped(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """`x` (T, features) with its mask applied and the rest scaled up."""
    return x * _kept(x, dropout)


def _kept(x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """0 or `scale` for each feature: bits of a 32-bit integer hash (two multiply-xorshift rounds) of its place."""
    key = int(dropout.key.item())
    first = (key ^ (dropout.salt * 0x9E3779B9)) & _UINT32
    second = ((key >> 32) + dropout.salt * 0x7FEB352D) & _UINT32
    bits = torch.arange(x.numel(), dtype=torch.int64, device=x.device)
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
    """The norm of each row of `x` (T, hidden), computed in 32 bits.

    Returns:
        the normed rows; the same with dropout (the same tensor without); the reciprocal root mean square (T,) in 32 bits.
    """
    wide = x.float()
    rstd = torch.rsqrt(wide.square().mean(-1) + eps)
    y = (wide * rstd[:, None] * weight.float()).to(x.dtype)
    return y, y if dropout is None else dropped(y, dropout), rstd


def rms_norm_again(x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
    """The second of `rms_norm`'s results, from what it left."""
    y = (x.float() * rstd[:, None] * weight.float()).to(x.dtype)
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
    """The gradient for `x`, plus `residual`.

    Args:
        dy: of the normed rows.
        t: more of it, for the rows after `dropout`.
    """
    g = dy.float()
    if t is not None:
        g = g + (t if dropout is None else dropped(t, dropout)).float()
    wdy, wide = g * weight.float(), x.float()
    mean = (wdy * wide).mean(-1, keepdim=True)
    dx = rstd[:, None] * (wdy - wide * rstd[:, None].square() * mean)
    return (dx if residual is None else residual.float() + dx).to(x.dtype)


def swiglu(
    gate_up: torch.Tensor, gate: Product | None = None, up: Product | None = None, dropout: Dropout | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`silu(gate) * up`, computed in 32 bits.

    Args:
        gate_up: (T, 2 × intermediate), the gate first.
        gate, up: to be added to either before.

    Returns:
        (T, intermediate); the same with dropout (the same tensor without).
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    y = (functional.silu(wide_gate) * wide_up).to(gate_up.dtype)
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

    Args:
        d: the gradient of `swiglu`'s first result.
        gate, up: as for `swiglu`.
        down: the gradient of its second result. With it, that result is written over `d`.
    """
    wide_gate, wide_up = _gate_and_up(gate_up, gate, up)
    sigmoid, wide = torch.sigmoid(wide_gate), d.float()
    if down is not None:
        more = down.left @ down.right
        wide = wide + (more if dropout is None else dropped(more, dropout)).float()
        d.copy_(swiglu(gate_up, gate, up, dropout)[1])
    return gate_up.copy_(torch.cat([wide * wide_up * sigmoid * (1 + wide_gate * (1 - sigmoid)), wide * wide_gate * sigmoid], -1))


def _gate_and_up(gate_up: torch.Tensor, gate: Product | None, up: Product | None) -> list[torch.Tensor]:
    """Both in 32 bits."""
    parts = zip(gate_up.float().chunk(2, -1), (gate, up), strict=True)
    return [x if product is None else x + product.left.float() @ product.right.float() for x, product in parts]


def rotate_(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, *, back: bool = False) -> torch.Tensor:
    """Rotary position embedding of the first `heads` heads, in place; `back` undoes it, which is its gradient.

    Args:
        qkv: (T, more than heads × head_dim).
        cos, sin: (T, head_dim / 2); features i and i + head_dim / 2 are a pair (Su et al. 2021, as transformers pairs them).
    """
    half = cos.shape[-1]
    part = qkv[:, : heads * 2 * half].view(-1, heads, 2, half)
    a, b = part[:, :, 0].float(), part[:, :, 1].float()
    c, s = cos.float()[:, None], (-sin if back else sin).float()[:, None]
    part[:, :, 0], part[:, :, 1] = (a * c - b * s).to(qkv.dtype), (b * c + a * s).to(qkv.dtype)
    return qkv


@dataclass(frozen=True)
class Heads:
    """The heads side by side in a row of `qkv`: `query` of them, then `key` for keys, then as many for values."""

    query: int
    key: int
    dim: int
    scale: float

    def split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query (query heads, T, dim); key and value repeated to as many heads."""
        wide = qkv.view(-1, self.query + 2 * self.key, self.dim).transpose(0, 1)
        q, k, v = torch.split(wide, [self.query, self.key, self.key])
        return q, k.repeat_interleave(self.query // self.key, 0), v.repeat_interleave(self.query // self.key, 0)


def attend(qkv: torch.Tensor, heads: Heads, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention within each document.

    Returns:
        (T, query heads × dim); the logarithm to base 2 of the softmax's denominators (query heads, T) in 32 bits.
    """
    q, k, v = heads.split(qkv)
    scores = _scores(q, k, heads, first)
    lse = torch.logsumexp(scores, -1)
    out = (scores - lse[..., None]).exp().to(qkv.dtype) @ v
    return out.transpose(0, 1).reshape(qkv.shape[0], -1), lse * 1.4426950408889634


def attend_backward(
    d: torch.Tensor,
    qkv: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: Heads,
    first: torch.Tensor,
    last: torch.Tensor,
) -> torch.Tensor:
    """The gradient for `qkv`, of its shape, from the gradient `d` of `attend`'s first result."""
    q, k, v = heads.split(qkv)
    tokens, group = qkv.shape[0], heads.query // heads.key
    p = (_scores(q, k, heads, first) - lse[..., None] / 1.4426950408889634).exp()
    dout = d.view(tokens, heads.query, heads.dim).transpose(0, 1)
    delta = (d.float() * out.float()).view(tokens, heads.query, heads.dim).sum(-1).transpose(0, 1)
    ds = (p * ((dout @ v.transpose(1, 2)).float() - delta[..., None])).to(qkv.dtype)
    dq, dk, dv = ds @ k * heads.scale, ds.transpose(1, 2) @ q * heads.scale, p.to(qkv.dtype).transpose(1, 2) @ dout
    dk, dv = (each.view(heads.key, group, tokens, heads.dim).sum(1) for each in (dk, dv))
    return torch.cat([dq, dk, dv]).transpose(0, 1).reshape(tokens, -1)


def _scores(q: torch.Tensor, k: torch.Tensor, heads: Heads, first: torch.Tensor) -> torch.Tensor:
    places = torch.arange(first.numel(), device=first.device)
    seen = (places[None, :] <= places[:, None]) & (places[None, :] >= first[:, None])
    return ((q @ k.transpose(1, 2)).float() * heads.scale).masked_fill(~seen, -torch.inf)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, *, gradient: bool) -> torch.Tensor:
    """The loss of each row in nats, 0 where its target is negative; in 32 bits.

    Args:
        logits: (rows, vocabulary); with `gradient` overwritten by the gradient of `scale × the sum of the losses`.
        scale: (1,).
    """
    wide, trained = logits.float(), targets >= 0
    lse = torch.logsumexp(wide, -1)
    picked = wide.gather(1, targets.clamp(min=0)[:, None].long())[:, 0]
    if gradient:
        d = (wide - lse[:, None]).exp()
        d.scatter_add_(1, targets.clamp(min=0)[:, None].long(), torch.full_like(d[:, :1], -1.0))
        logits.copy_(d * scale * trained[:, None])
    return torch.where(trained, lse - picked, 0.0)
