"""A decoder layer of the Llama family (Llama, Mistral, Qwen 2), forward and backward.

Kept for the backward pass: the inputs of the two norms, query, key and value after rotation, the output of attention, gate and
up. These two are kept as the frozen weights gave them: what an adapter of small rank adds is added wherever they are read, which
spares a pass over the widest tensor of a layer. The norms' outputs and the activated gate are computed again where an adapter
needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from pipeline.training.fused.backend import Operations
from pipeline.training.fused.lora_linear import FusedLinear
from pipeline.training.fused.torch_ops import Dropout, Heads


@dataclass(frozen=True)
class Tokens:
    """What the layers know of a micro-batch: the angles of its positions, where its documents lie, and its dropout.

    Attributes:
        cos, sin: (T, head_dim / 2).
        first, last: (T,) int32, see `reference`.
        dropout: of the whole micro-batch; each place in the model salts it. None for none.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    dropout: Dropout | None = None


class Kept(NamedTuple):
    """Of a layer's forward pass. `h_…` are (T, ranks), None without an adapter there."""

    x: torch.Tensor
    rstd: torch.Tensor
    qkv: torch.Tensor
    attended: torch.Tensor
    lse: torch.Tensor
    middle: torch.Tensor
    middle_rstd: torch.Tensor
    gate_up: torch.Tensor
    h_qkv: torch.Tensor | None
    h_o: torch.Tensor | None
    h_gate_up: torch.Tensor | None
    h_down: torch.Tensor | None


# The places of a layer whose input is dropped, each with a mask of its own. Adapters that read the same input share it, as fused
# projections do in the code of the LoRA paper (microsoft/LoRA, MergedLinear).
_QKV, _O, _GATE_UP, _DOWN = range(4)
_PLACES = 4


@dataclass(frozen=True)
class FusedLayer:
    """One decoder layer.

    Attributes:
        number: its place in the model, from 0.
        norm, middle_norm: the weights of the two norms.
    """

    number: int
    operations: Operations
    heads: Heads
    eps: float
    norm: torch.Tensor
    middle_norm: torch.Tensor
    qkv: FusedLinear
    o: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear

    def _dropout(self, tokens: Tokens, place: int, linear: FusedLinear) -> Dropout | None:
        if tokens.dropout is None or linear.low_rank is None:
            return None
        return replace(tokens.dropout, salt=self.number * _PLACES + place)

    def forward(self, x: torch.Tensor, tokens: Tokens) -> tuple[torch.Tensor, Kept]:
        """`x` (T, hidden) -> the layer's output and what `backward` needs."""
        dense, heads = self.operations.dense, self.heads
        normed, dropped, rstd = dense.rms_norm(x, self.norm, self.eps, self._dropout(tokens, _QKV, self.qkv))
        h_qkv = self.qkv.hidden(dropped)
        qkv = self.qkv.forward(normed, h_qkv)
        dense.rotate_(qkv, tokens.cos, tokens.sin, heads.query + heads.key)
        attended, lse = self.operations.attention.attend(qkv, heads, tokens.first)
        h_o = self.o.hidden(self._dropped(attended, self._dropout(tokens, _O, self.o)))
        middle = self.o.forward(attended, h_o, residual=x)
        dropout = self._dropout(tokens, _GATE_UP, self.gate_up)
        normed, dropped, middle_rstd = dense.rms_norm(middle, self.middle_norm, self.eps, dropout)
        h_gate_up = self.gate_up.hidden(dropped)
        left_open = self.gate_up.left_open(h_gate_up)
        gate_up = self.gate_up.forward(normed, None if any(left_open) else h_gate_up)
        activated, dropped = dense.swiglu(gate_up, *left_open, self._dropout(tokens, _DOWN, self.down))
        h_down = self.down.hidden(dropped)
        y = self.down.forward(activated, h_down, residual=middle)
        return y, Kept(x, rstd, qkv, attended, lse, middle, middle_rstd, gate_up, h_qkv, h_o, h_gate_up, h_down)

    def _dropped(self, x: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        dropped: torch.Tensor = x if dropout is None else self.operations.dense.dropped(x, dropout)
        return dropped

    def backward(self, dy: torch.Tensor, kept: Kept, tokens: Tokens) -> torch.Tensor:
        """Writes the adapters' gradients; returns the gradient for `x`, of the first layer nothing to be used: nothing before it
        trains.

        `kept` is used up.
        """
        dmiddle = self._mlp_backward(dy, kept, tokens)
        d = self._o_backward(dmiddle, kept, tokens)
        attend_backward = self.operations.attention.attend_backward
        dqkv = attend_backward(d, kept.qkv, kept.attended, kept.lse, self.heads, tokens.first, tokens.last)
        del d
        self.operations.dense.rotate_(dqkv, tokens.cos, tokens.sin, self.heads.query + self.heads.key, back=True)
        return self._qkv_backward(dqkv, dmiddle, kept, tokens)

    def _mlp_backward(self, dy: torch.Tensor, kept: Kept, tokens: Tokens) -> torch.Tensor:
        """The gradient for what lies between attention and MLP, the residual path included."""
        d, dhidden, down = dy @ self.down.matrix(), None, None
        if kept.h_down is not None:
            dhidden = self.down.hidden_backward(dy, kept.h_down)
            down = self.down.product_back(dhidden)
        left_open = self.gate_up.left_open(kept.h_gate_up)
        dropout = self._dropout(tokens, _DOWN, self.down)
        dgate_up = self.operations.dense.swiglu_backward_(d, kept.gate_up, *left_open, down, dropout)
        if dhidden is not None:
            self.down.down_backward(dhidden, d)
        del d
        dnormed = dgate_up @ self.gate_up.matrix()
        norm = (kept.middle, kept.middle_rstd, self.middle_norm)
        dropout = self._dropout(tokens, _GATE_UP, self.gate_up)
        return self._norm_backward(dnormed, dgate_up, self.gate_up, kept.h_gate_up, norm, dy, dropout)

    def _add(self, d: torch.Tensor, linear: FusedLinear, dhidden: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        if dropout is None:
            return linear.add_times_down_(d, dhidden)
        added: torch.Tensor = self.operations.dense.add_dropped_(d, linear.times_down(dhidden), dropout)
        return added

    def _norm_backward(
        self,
        dnormed: torch.Tensor,
        dy: torch.Tensor,
        linear: FusedLinear,
        hidden: torch.Tensor | None,
        norm: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        residual: torch.Tensor,
        dropout: Dropout | None,
    ) -> torch.Tensor:
        """Back through a linear layer's adapters and the norm before it."""
        dense, (x, rstd, weight) = self.operations.dense, norm
        more = None
        if hidden is not None:
            dhidden = linear.backward(dy, dense.rms_norm_again(x, weight, rstd, dropout), hidden)
            if dropout is None:
                linear.add_times_down_(dnormed, dhidden)
            else:
                more = linear.times_down(dhidden)
        dx: torch.Tensor = dense.rms_norm_backward(dnormed, x, rstd, weight, residual, more, dropout)
        return dx

    def _o_backward(self, dmiddle: torch.Tensor, kept: Kept, tokens: Tokens) -> torch.Tensor:
        """The gradient for the output of attention."""
        d = dmiddle @ self.o.matrix()
        if kept.h_o is None:
            return d
        dropout = self._dropout(tokens, _O, self.o)
        dhidden = self.o.backward(dmiddle, self._dropped(kept.attended, dropout), kept.h_o)
        return self._add(d, self.o, dhidden, dropout)

    def _qkv_backward(self, dqkv: torch.Tensor, dmiddle: torch.Tensor, kept: Kept, tokens: Tokens) -> torch.Tensor:
        dropout = self._dropout(tokens, _QKV, self.qkv)
        if self.number == 0:
            if kept.h_qkv is not None:
                again = self.operations.dense.rms_norm_again(kept.x, self.norm, kept.rstd, dropout)
                self.qkv.backward(dqkv, again, kept.h_qkv)
            return dmiddle
        dnormed = dqkv @ self.qkv.matrix()
        return self._norm_backward(dnormed, dqkv, self.qkv, kept.h_qkv, (kept.x, kept.rstd, self.norm), dmiddle, dropout)


def layer_weights(layer: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The linear layers of a transformers decoder layer, with `peft` around them or without; those together that read the same
    input."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )
