"""A decoder layer of the Llama family (Llama, Mistral, Qwen 2), forward and backward.

Saved for the backward pass: the inputs of the two norms, query, key and value after rotation, the output of attention, gate and
up. These two are saved as the frozen weights gave them: what an adapter of small rank adds is added wherever they are read, which
spares a pass over the widest tensor of a layer. The norms' outputs and the activated gate are computed again where an adapter
needs them.

In the comments on shapes T is the tokens of the micro-batch, all documents one after another; "compute" is the compute dtype,
bfloat16 on a GPU. A gradient is named `d` and what it is the gradient for: `dqkv` has the shape and dtype of `qkv`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from pipeline.training.fused.backend import Operations
from pipeline.training.fused.lora_linear import FusedLinear
from pipeline.training.fused.torch_ops import Dropout, Heads


@dataclass(frozen=True)
class BatchContext:
    """What every layer reads of a micro-batch: the angles of its positions, where its documents lie, and its dropout.

    Attributes:
        dropout: of the whole micro-batch; each place in the model salts it. None for none.
    """

    cos: torch.Tensor  # (T, head_dim / 2) compute
    sin: torch.Tensor  # (T, head_dim / 2) compute
    doc_start: torch.Tensor  # (T,) int32: index of the first token of its document
    doc_end: torch.Tensor  # (T,) int32: index behind the last
    dropout: Dropout | None = None


class SavedActivations(NamedTuple):
    """What a layer's backward pass needs of its forward pass, in place of autograd's saved tensors.

    `xa_…` is the input times LoRA's A, None where no adapter is; "ranks" are those of the adapters that share the input.
    """

    x: torch.Tensor  # (T, hidden) compute: the layer's input
    rstd: torch.Tensor  # (T,) float32: reciprocal RMS of `x`
    qkv: torch.Tensor  # (T, (query + 2 × key heads) × head_dim) compute, query and key rotated
    attended: torch.Tensor  # (T, query heads × head_dim) compute
    lse: torch.Tensor  # (query heads, T) float32: log2 of the softmax's denominators
    middle: torch.Tensor  # (T, hidden) compute: the residual stream between attention and MLP
    middle_rstd: torch.Tensor  # (T,) float32
    gate_up: torch.Tensor  # (T, 2 × intermediate) compute, without what deferred adapters add
    xa_qkv: torch.Tensor | None  # (T, ranks) compute
    xa_o: torch.Tensor | None  # (T, rank) compute
    xa_gate_up: torch.Tensor | None  # (T, ranks) compute
    xa_down: torch.Tensor | None  # (T, rank) compute


# The places of a layer whose input is dropped, each with a mask of its own. Adapters that read the same input share it, as fused
# projections do in the code of the LoRA paper (microsoft/LoRA, MergedLinear).
_QKV, _O, _GATE_UP, _DOWN = range(4)
_PLACES = 4


@dataclass(frozen=True)
class FusedLayer:
    """One decoder layer: `x + o(attention(norm(x)))`, then the same with the MLP.

    Attributes:
        number: its place in the model, from 0.
        eps: added to the mean square in both norms.
        input_norm, post_attention_norm: the norms' weights, (hidden,).
        qkv, o, gate_up, down: the frozen projections with their adapters; those that read the same input are one matrix.
    """

    number: int
    operations: Operations
    heads: Heads
    eps: float
    input_norm: torch.Tensor
    post_attention_norm: torch.Tensor
    qkv: FusedLinear
    o: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear

    def _dropout(self, context: BatchContext, place: int, linear: FusedLinear) -> Dropout | None:
        if context.dropout is None or linear.adapters is None:
            return None
        return replace(context.dropout, salt=self.number * _PLACES + place)

    def forward(self, x: torch.Tensor, context: BatchContext) -> tuple[torch.Tensor, SavedActivations]:
        """The layer's output and what `backward` needs.

        Args:
            x: (T, hidden) in the compute dtype. It is saved, not copied.

        Returns:
            (T, hidden) in the compute dtype; the saved activations.
        """
        dense, heads = self.operations.dense, self.heads
        # (T, hidden) twice, the same tensor without dropout; (T,) float32
        normed, dropped, rstd = dense.rms_norm(x, self.input_norm, self.eps, self._dropout(context, _QKV, self.qkv))
        xa_qkv = self.qkv.times_a(dropped)  # (T, ranks)
        qkv = self.qkv.forward(normed, xa_qkv)  # (T, (query + 2 × key heads) × head_dim)
        dense.rotate_(qkv, context.cos, context.sin, heads.query + heads.key)  # query and key, not value
        attended, lse = self.operations.attention.attend(qkv, heads, context.doc_start)
        xa_o = self.o.times_a(self._dropped(attended, self._dropout(context, _O, self.o)))  # (T, rank)
        middle = self.o.forward(attended, xa_o, residual=x)  # (T, hidden)
        dropout = self._dropout(context, _GATE_UP, self.gate_up)
        normed, dropped, middle_rstd = dense.rms_norm(middle, self.post_attention_norm, self.eps, dropout)
        xa_gate_up = self.gate_up.times_a(dropped)  # (T, ranks)
        deferred = self.gate_up.deferred(xa_gate_up)
        gate_up = self.gate_up.forward(normed, None if any(deferred) else xa_gate_up)  # (T, 2 × intermediate)
        # (T, intermediate) twice, the same tensor without dropout
        activated, dropped = dense.swiglu(gate_up, *deferred, self._dropout(context, _DOWN, self.down))
        xa_down = self.down.times_a(dropped)  # (T, rank)
        y = self.down.forward(activated, xa_down, residual=middle)  # (T, hidden)
        return y, SavedActivations(x, rstd, qkv, attended, lse, middle, middle_rstd, gate_up, xa_qkv, xa_o, xa_gate_up, xa_down)

    def _dropped(self, x: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        dropped: torch.Tensor = x if dropout is None else self.operations.dense.dropped(x, dropout)
        return dropped

    def backward(self, dy: torch.Tensor, saved: SavedActivations, context: BatchContext) -> torch.Tensor:
        """Writes the adapters' gradients and returns the gradient for the layer's input.

        Args:
            dy: (T, hidden) in the compute dtype.
            saved: of the same forward pass. Used up: its `gate_up` is overwritten.

        Returns:
            (T, hidden) in the compute dtype; of the first layer nothing to be used, for nothing before it trains.
        """
        dmiddle = self._mlp_backward(dy, saved, context)  # (T, hidden)
        d = self._o_backward(dmiddle, saved, context)  # (T, query heads × head_dim)
        attend_backward = self.operations.attention.attend_backward
        # (T, (query + 2 × key heads) × head_dim)
        dqkv = attend_backward(d, saved.qkv, saved.attended, saved.lse, self.heads, context.doc_start, context.doc_end)
        del d
        self.operations.dense.rotate_(dqkv, context.cos, context.sin, self.heads.query + self.heads.key, back=True)
        return self._qkv_backward(dqkv, dmiddle, saved, context)

    def _mlp_backward(self, dy: torch.Tensor, saved: SavedActivations, context: BatchContext) -> torch.Tensor:
        """The gradient for what lies between attention and MLP, the residual path included."""
        d, dxa, down = dy @ self.down.matrix(), None, None  # `d`: (T, intermediate), the frozen weights' part
        if saved.xa_down is not None:
            dxa = self.down.b_backward(dy, saved.xa_down)  # (T, rank)
            down = self.down.input_gradient_product(dxa)
        deferred = self.gate_up.deferred(saved.xa_gate_up)
        dropout = self._dropout(context, _DOWN, self.down)
        # (T, 2 × intermediate), in the memory of `saved.gate_up`; with an adapter `d` becomes the activated gate after dropout
        dgate_up = self.operations.dense.swiglu_backward_(d, saved.gate_up, *deferred, down, dropout)
        if dxa is not None:
            self.down.a_backward(dxa, d)
        del d
        dnormed = dgate_up @ self.gate_up.matrix()  # (T, hidden)
        norm = (saved.middle, saved.middle_rstd, self.post_attention_norm)
        dropout = self._dropout(context, _GATE_UP, self.gate_up)
        return self._norm_backward(dnormed, dgate_up, self.gate_up, saved.xa_gate_up, norm, dy, dropout)

    def _add(self, d: torch.Tensor, linear: FusedLinear, dxa: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        if dropout is None:
            return linear.add_input_gradient_(d, dxa)
        added: torch.Tensor = self.operations.dense.add_dropped_(d, linear.input_gradient(dxa), dropout)
        return added

    def _norm_backward(
        self,
        dnormed: torch.Tensor,
        dy: torch.Tensor,
        linear: FusedLinear,
        xa: torch.Tensor | None,
        norm: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        residual: torch.Tensor,
        dropout: Dropout | None,
    ) -> torch.Tensor:
        """Back through a linear layer's adapters and the norm before it.

        Args:
            dnormed: (T, hidden), the frozen weights' part of the gradient for the norm's output. Overwritten.
            dy: (T, outputs of `linear`).
            norm: input (T, hidden), its reciprocal RMS (T,), weight (hidden,).
            residual: (T, hidden), the gradient that comes past the norm.
        """
        dense, (x, rstd, weight) = self.operations.dense, norm
        more = None  # (T, hidden), the adapters' part where dropout lies between
        if xa is not None:
            dxa = linear.backward(dy, dense.rms_norm_again(x, weight, rstd, dropout), xa)  # (T, ranks)
            if dropout is None:
                linear.add_input_gradient_(dnormed, dxa)
            else:
                more = linear.input_gradient(dxa)
        dx: torch.Tensor = dense.rms_norm_backward(dnormed, x, rstd, weight, residual, more, dropout)
        return dx

    def _o_backward(self, dmiddle: torch.Tensor, saved: SavedActivations, context: BatchContext) -> torch.Tensor:
        """The gradient for the output of attention."""
        d = dmiddle @ self.o.matrix()  # (T, query heads × head_dim)
        if saved.xa_o is None:
            return d
        dropout = self._dropout(context, _O, self.o)
        dxa = self.o.backward(dmiddle, self._dropped(saved.attended, dropout), saved.xa_o)  # (T, rank)
        return self._add(d, self.o, dxa, dropout)

    def _qkv_backward(
        self, dqkv: torch.Tensor, dmiddle: torch.Tensor, saved: SavedActivations, context: BatchContext
    ) -> torch.Tensor:
        dropout = self._dropout(context, _QKV, self.qkv)
        if self.number == 0:  # below it are the frozen embeddings only: the adapters' gradients, and no more
            if saved.xa_qkv is not None:
                again = self.operations.dense.rms_norm_again(saved.x, self.input_norm, saved.rstd, dropout)  # (T, hidden)
                self.qkv.backward(dqkv, again, saved.xa_qkv)
            return dmiddle
        dnormed = dqkv @ self.qkv.matrix()  # (T, hidden)
        return self._norm_backward(
            dnormed, dqkv, self.qkv, saved.xa_qkv, (saved.x, saved.rstd, self.input_norm), dmiddle, dropout
        )


def layer_weights(layer: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The linear layers of a decoder layer, those together that read the same input: the order of `FusedLayer`'s fields.

    Args:
        layer: of transformers, with `peft` around its linear layers or without.
    """
    attention, mlp = layer.self_attn, layer.mlp
    return (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )
