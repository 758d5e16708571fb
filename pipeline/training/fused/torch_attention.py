"""Attention within documents in plain torch: what `triton_attention` is held against, described as in `torch_ops`."""

from __future__ import annotations

import torch

from pipeline.training.fused.torch_ops import Heads

_LOG2_E = 1.4426950408889634  # from nats to base 2, in which the kernels take exponentials


def attend(qkv: torch.Tensor, heads: Heads, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention within each document: `softmax(q kᵀ × scale) v` over the keys from the first one seen to the query.

    Args:
        qkv: (T, (query + 2 × key heads) × dim) in the compute dtype, rotated.
        first: (T,) int32: the first token that each sees, of its document and within its window. Never falls.

    Returns:
        (T, query heads × dim) in the compute dtype; the logarithm to base 2 of the softmax's denominators (query heads, T) in
        32 bits.
    """
    q, k, v = heads.split(qkv)
    scores = _scores(q, k, heads, first)
    lse = torch.logsumexp(scores, -1)  # (query heads, T) float32, nats
    out = (scores - lse[..., None]).exp().to(qkv.dtype) @ v  # (query heads, T, dim) compute
    return out.transpose(0, 1).reshape(qkv.shape[0], -1), lse * _LOG2_E


def attend_backward(
    d: torch.Tensor,
    qkv: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: Heads,
    first: torch.Tensor,
    last: torch.Tensor,
) -> torch.Tensor:
    """The gradient for `qkv`, of its shape and dtype.

    As flash attention computes it (Dao et al. 2022, appendix B): the probabilities again from the denominators, and `delta`, the
    sum of gradient × output over a head's features, in place of the softmax's own backward pass.

    Args:
        d: (T, query heads × dim), the gradient for `attend`'s first result.
        qkv, first: as for `attend`.
        out, lse: its results.
        last: (T,) int32: the index behind the last token that sees each, where the kernels' loop over queries ends; not needed
            here. Never falls.
    """
    q, k, v = heads.split(qkv)
    tokens, group = qkv.shape[0], heads.query // heads.key
    p = (_scores(q, k, heads, first) - lse[..., None] / _LOG2_E).exp()  # (query heads, T, T) float32
    dout = d.view(tokens, heads.query, heads.dim).transpose(0, 1)  # (query heads, T, dim) compute
    delta = (d.float() * out.float()).view(tokens, heads.query, heads.dim).sum(-1).transpose(0, 1)  # (query heads, T) float32
    ds = (p * ((dout @ v.transpose(1, 2)).float() - delta[..., None])).to(qkv.dtype)  # (query heads, T, T) compute
    # (query heads, T, dim) compute
    dq, dk, dv = ds @ k * heads.scale, ds.transpose(1, 2) @ q * heads.scale, p.to(qkv.dtype).transpose(1, 2) @ dout
    # (key heads, T, dim) compute: the query heads that share a key add up
    dk, dv = (each.view(heads.key, group, tokens, heads.dim).sum(1) for each in (dk, dv))
    return torch.cat([dq, dk, dv]).transpose(0, 1).reshape(tokens, -1)


def _scores(q: torch.Tensor, k: torch.Tensor, heads: Heads, first: torch.Tensor) -> torch.Tensor:
    """(query heads, T, T) float32, minus infinity where a query does not see a key."""
    places = torch.arange(first.numel(), device=first.device)  # (T,)
    seen = (places[None, :] <= places[:, None]) & (places[None, :] >= first[:, None])  # (queries, keys) bool
    return ((q @ k.transpose(1, 2)).float() * heads.scale).masked_fill(~seen, -torch.inf)
