# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""Attention within documents as Triton kernels: FlashAttention-2 (Dao 2023) whose inner loop begins where a document or a window
does.

A tile of queries is a stretch of the whole sequence, whatever documents it holds; its loop over keys starts at the first one that
its first query sees and ends at the diagonal. So no tile is empty however short the documents are, and the shape of the launch
does not depend on them. The backward pass goes over the scores twice, once for keys and values and once for queries, and needs no
atomic sums: the same inputs give the same bits.

In the kernels QUERY and KEY are numbers of heads, DIM the features of one, M and N the queries and keys of a tile. QKV is
(tokens, WIDTH), a row of it all query heads, then all key heads, then all value heads. Exponentials are to base 2, the GPU's own:
the scores are scaled by log2(e) besides.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from pipeline.training.fused.torch_ops import MULTIPLE, Heads


class Tile(NamedTuple):
    """How a kernel cuts the work: queries, keys, warps, stages of the software pipeline."""

    queries: int
    keys: int
    warps: int
    stages: int


# By head_dim. All sizes divide `MULTIPLE`, so that no tile is cut off.
FORWARD = {32: Tile(64, 64, 4, 3), 64: Tile(64, 64, 4, 3), 128: Tile(64, 64, 4, 2), 256: Tile(64, 32, 4, 1)}
BACKWARD_KEYS = {32: Tile(64, 64, 4, 3), 64: Tile(64, 64, 4, 3), 128: Tile(32, 64, 4, 2), 256: Tile(32, 32, 4, 1)}
BACKWARD_QUERIES = {32: Tile(64, 32, 4, 3), 64: Tile(64, 32, 4, 3), 128: Tile(64, 32, 4, 2), 256: Tile(32, 32, 4, 1)}
_LOG2_E = 1.4426950408889634


@triton.jit
def _forward(QKV, OUT, LSE, FIRST, tokens, scale,
             QUERY: tl.constexpr, KEY: tl.constexpr, DIM: tl.constexpr, M: tl.constexpr, N: tl.constexpr):  # fmt: skip
    """A program a tile of queries of one head. LSE is (QUERY, tokens); `scale` includes log2(e)."""
    WIDTH: tl.constexpr = (QUERY + 2 * KEY) * DIM
    block, head = tl.program_id(0), tl.program_id(1)
    rows = block * M + tl.arange(0, M)
    feature = tl.arange(0, DIM)
    first = tl.load(FIRST + rows)  # (M,)
    q = tl.load(QKV + rows[:, None].to(tl.int64) * WIDTH + head * DIM + feature[None, :])  # (M, DIM)
    keys = QKV + (QUERY + head // (QUERY // KEY)) * DIM  # the key head that this query head shares with its group
    largest = tl.full((M,), -1e30, tl.float32)
    total = tl.zeros((M,), tl.float32)
    out = tl.zeros((M, DIM), tl.float32)
    begin = tl.load(FIRST + block * M) // N * N  # the first query's first key is none behind the others'
    for start in range(begin, (block + 1) * M, N):
        columns = start + tl.arange(0, N)
        k = tl.load(keys + columns[None, :].to(tl.int64) * WIDTH + feature[:, None])  # (DIM, N)
        s = tl.dot(q, k) * scale  # (M, N)
        s = tl.where((columns[None, :] <= rows[:, None]) & (columns[None, :] >= first[:, None]), s, -1e30)
        larger = tl.maximum(largest, tl.max(s, 1))
        # A row that has seen no key of its own yet sums nonsense here; its first own key brings the factor to 0.
        p = tl.exp2(s - larger[:, None])
        fade = tl.exp2(largest - larger)
        total = total * fade + tl.sum(p, 1)
        v = tl.load(keys + KEY * DIM + columns[:, None].to(tl.int64) * WIDTH + feature[None, :])  # (N, DIM)
        out = tl.dot(p.to(v.dtype), v, out * fade[:, None])
        largest = larger
    tl.store(OUT + rows[:, None].to(tl.int64) * (QUERY * DIM) + head * DIM + feature[None, :], out / total[:, None])
    tl.store(LSE + head * tokens + rows, largest + tl.log2(total))


def attend(qkv: torch.Tensor, heads: Heads, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """See `torch_attention.attend`; the number of tokens is a multiple of `MULTIPLE`, `heads.dim` a key of `FORWARD`."""
    tokens = qkv.shape[0]
    out = qkv.new_empty(tokens, heads.query * heads.dim)  # (T, query heads × dim) compute
    lse = torch.empty(heads.query, tokens, dtype=torch.float32, device=qkv.device)  # (query heads, T)
    tile = FORWARD[heads.dim]
    _forward[(tokens // tile.queries, heads.query)](
        qkv, out, lse, first, tokens, heads.scale * _LOG2_E,
        QUERY=heads.query, KEY=heads.key, DIM=heads.dim, M=tile.queries, N=tile.keys,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out, lse


@triton.jit
def _delta(D, OUT, DELTA, tokens, QUERY: tl.constexpr, DIM: tl.constexpr, M: tl.constexpr):
    """The sum of gradient × output over the features of each head (Dao et al. 2022, appendix B)."""
    rows, head = tl.program_id(0) * M + tl.arange(0, M), tl.program_id(1)
    offsets = rows[:, None].to(tl.int64) * (QUERY * DIM) + head * DIM + tl.arange(0, DIM)[None, :]
    product = tl.load(D + offsets).to(tl.float32) * tl.load(OUT + offsets).to(tl.float32)
    tl.store(DELTA + head * tokens + rows, tl.sum(product, 1))


@triton.jit
def _backward_keys(QKV, D, LSE, DELTA, FIRST, LAST, DQKV, tokens, scale, scale_log2,
                   QUERY: tl.constexpr, KEY: tl.constexpr, DIM: tl.constexpr, M: tl.constexpr, N: tl.constexpr):  # fmt: skip
    """A program a tile of keys of one key head; it goes over the queries of all GROUP heads that share it."""
    WIDTH: tl.constexpr = (QUERY + 2 * KEY) * DIM
    GROUP: tl.constexpr = QUERY // KEY
    block, key_head = tl.program_id(0), tl.program_id(1)
    columns = block * N + tl.arange(0, N)
    feature = tl.arange(0, DIM)
    offsets = columns[:, None].to(tl.int64) * WIDTH + (QUERY + key_head) * DIM + feature[None, :]
    k, v = tl.load(QKV + offsets), tl.load(QKV + offsets + KEY * DIM)  # (N, DIM)
    dk = tl.zeros((N, DIM), tl.float32)
    dv = tl.zeros((N, DIM), tl.float32)
    # From the diagonal to the last query that sees the last key: none behind it sees one of the others.
    begin, end = block * N // M * M, tl.load(LAST + (block + 1) * N - 1)
    for member in range(GROUP):
        head = key_head * GROUP + member
        for start in range(begin, end, M):
            rows = start + tl.arange(0, M)
            q = tl.load(QKV + rows[:, None].to(tl.int64) * WIDTH + head * DIM + feature[None, :])  # (M, DIM)
            d = tl.load(D + rows[:, None].to(tl.int64) * (QUERY * DIM) + head * DIM + feature[None, :])  # (M, DIM)
            lse, delta = tl.load(LSE + head * tokens + rows), tl.load(DELTA + head * tokens + rows)  # (M,)
            first = tl.load(FIRST + rows)
            p = tl.exp2(tl.dot(k, tl.trans(q)) * scale_log2 - lse[None, :])  # (N, M): transposed
            p = tl.where((columns[:, None] <= rows[None, :]) & (columns[:, None] >= first[None, :]), p, 0.0)
            dv = tl.dot(p.to(d.dtype), d, dv)
            ds = p * (tl.dot(v, tl.trans(d)) - delta[None, :])
            dk = tl.dot(ds.to(q.dtype), q, dk)
    tl.store(DQKV + offsets, dk * scale)
    tl.store(DQKV + offsets + KEY * DIM, dv)


@triton.jit
def _backward_queries(QKV, D, LSE, DELTA, FIRST, DQKV, tokens, scale, scale_log2,
                      QUERY: tl.constexpr, KEY: tl.constexpr, DIM: tl.constexpr, M: tl.constexpr, N: tl.constexpr):  # fmt: skip
    """A program a tile of queries of one head; it goes over the keys that `_forward` went over."""
    WIDTH: tl.constexpr = (QUERY + 2 * KEY) * DIM
    block, head = tl.program_id(0), tl.program_id(1)
    rows = block * M + tl.arange(0, M)
    feature = tl.arange(0, DIM)
    first = tl.load(FIRST + rows)
    offsets = rows[:, None].to(tl.int64) * WIDTH + head * DIM + feature[None, :]  # (M, DIM)
    q = tl.load(QKV + offsets)
    d = tl.load(D + rows[:, None].to(tl.int64) * (QUERY * DIM) + head * DIM + feature[None, :])
    lse, delta = tl.load(LSE + head * tokens + rows), tl.load(DELTA + head * tokens + rows)
    keys = QKV + (QUERY + head // (QUERY // KEY)) * DIM
    dq = tl.zeros((M, DIM), tl.float32)
    begin = tl.load(FIRST + block * M) // N * N
    for start in range(begin, (block + 1) * M, N):
        columns = start + tl.arange(0, N)
        k = tl.load(keys + columns[:, None].to(tl.int64) * WIDTH + feature[None, :])
        v = tl.load(keys + KEY * DIM + columns[:, None].to(tl.int64) * WIDTH + feature[None, :])
        p = tl.exp2(tl.dot(q, tl.trans(k)) * scale_log2 - lse[:, None])  # (M, N)
        p = tl.where((columns[None, :] <= rows[:, None]) & (columns[None, :] >= first[:, None]), p, 0.0)
        ds = p * (tl.dot(d, tl.trans(v)) - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq)
    tl.store(DQKV + offsets, dq * scale)


def attend_backward(
    d: torch.Tensor,
    qkv: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    heads: Heads,
    first: torch.Tensor,
    last: torch.Tensor,
) -> torch.Tensor:
    """See `torch_attention.attend_backward`; tokens and heads as for `attend`."""
    tokens = qkv.shape[0]
    delta, dqkv = torch.empty_like(lse), torch.empty_like(qkv)  # (query heads, T) float32; as qkv
    sizes = {"QUERY": heads.query, "KEY": heads.key, "DIM": heads.dim}
    rows = min(MULTIPLE, MULTIPLE * 128 // heads.dim)  # no more numbers a program than fit into its registers
    _delta[(tokens // rows, heads.query)](d, out, delta, tokens, QUERY=heads.query, DIM=heads.dim, M=rows)
    tile = BACKWARD_KEYS[heads.dim]
    _backward_keys[(tokens // tile.keys, heads.key)](
        qkv, d, lse, delta, first, last, dqkv, tokens, heads.scale, heads.scale * _LOG2_E, **sizes,
        M=tile.queries, N=tile.keys, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    tile = BACKWARD_QUERIES[heads.dim]
    _backward_queries[(tokens // tile.queries, heads.query)](
        qkv, d, lse, delta, first, dqkv, tokens, heads.scale, heads.scale * _LOG2_E, **sizes,
        M=tile.queries, N=tile.keys, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return dqkv
