"""A decoder layer put together from its parts, forward and backward: `x + norm(attention(norm(x)))`, then the same with the MLP.

Which parts there are says `modeling.decoder_parts`: each norm may be missing, query and key may be normed, rotated in part or not
at all, attention may see a window only. Nothing here asks which family they belong to.

Saved for the backward pass: the layer's input and the residual stream between attention and MLP; what a norm behind a block read;
query, key and value, rotated, or where they are normed as the projection gave them, to be normed and rotated again; the output of
attention; gate and up. These two are saved as the frozen weights gave them: what an adapter of small rank adds is added wherever
they are read, which spares a pass over the widest tensor of a layer. The norms' outputs and the activated gate are computed again
where an adapter needs them.

In the comments on shapes T is the tokens of the micro-batch, all documents one after another; "compute" is the compute dtype,
bfloat16 on a GPU. A gradient is named `d` and what it is the gradient for: `dqkv` has the shape and dtype of `qkv`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from pipeline.modeling.decoder_parts import Activation
from pipeline.training.fused.backend import Operations
from pipeline.training.fused.batch_context import BatchContext
from pipeline.training.fused.lora_linear import FusedLinear
from pipeline.training.fused.torch_ops import Angles, Dropout, HeadNorms, Heads


class NormWeights(NamedTuple):
    """Of an RMSNorm: what the normed features are multiplied by, (hidden,) float32, and what is added to the mean square."""

    weight: torch.Tensor
    eps: float


class SavedActivations(NamedTuple):
    """What a layer's backward pass needs of its forward pass, in place of autograd's saved tensors.

    `xa_…` is the input times LoRA's A, None where no adapter is; "ranks" are those of the adapters that share the input. What
    belongs to a norm is None where the layer has none there; `rstd` is the reciprocal RMS of what a norm read.
    """

    x: torch.Tensor  # (T, hidden) compute: the layer's input
    rstd: torch.Tensor | None  # (T,) float32
    qkv: torch.Tensor  # (T, (query + 2 × key heads) × head_dim) compute
    attended: torch.Tensor  # (T, query heads × head_dim) compute
    lse: torch.Tensor  # (query heads, T) float32: log2 of the softmax's denominators
    from_attention: torch.Tensor | None  # (T, hidden) compute: read by the norm behind attention
    from_attention_rstd: torch.Tensor | None  # (T,) float32
    middle: torch.Tensor  # (T, hidden) compute: the residual stream between attention and MLP
    middle_rstd: torch.Tensor | None  # (T,) float32
    gate_up: torch.Tensor  # (T, 2 × intermediate) compute, without what deferred adapters add
    from_mlp: torch.Tensor | None  # (T, hidden) compute: read by the norm behind the MLP
    from_mlp_rstd: torch.Tensor | None  # (T,) float32
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
    """One decoder layer.

    Attributes:
        number: its place in the model, from 0.
        before_attention, after_attention, before_mlp, after_mlp: norms of what a block reads and of what it gives.
        head_norms: of queries and keys.
        rotation: which angles of the context turn them; None for none.
        window: tokens that a token sees, itself included; 0 for all before it.
        activation: of the gate.
        qkv, o, gate_up, down: the frozen projections with their adapters; those that read the same input are one matrix.
    """

    number: int
    operations: Operations
    heads: Heads
    before_attention: NormWeights | None
    after_attention: NormWeights | None
    before_mlp: NormWeights | None
    after_mlp: NormWeights | None
    head_norms: HeadNorms | None
    rotation: str | None
    window: int
    activation: Activation
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
        # (T, hidden) twice, the same tensor without dropout; (T,) float32
        normed, dropped, rstd = self._normed(x, self.before_attention, self._dropout(context, _QKV, self.qkv))
        xa_qkv = self.qkv.times_a(dropped)  # (T, ranks)
        qkv = self.qkv.forward(normed, xa_qkv)  # (T, (query + 2 × key heads) × head_dim)
        del normed, dropped
        attend = self.operations.attention.attend
        attended, lse = attend(self._attention_input(qkv, context), self.heads, context.seen[self.window].first)
        xa_o = self.o.times_a(self._dropped(attended, self._dropout(context, _O, self.o)))  # (T, rank)
        # (T, hidden); what the norm behind attention read and its rstd
        middle, from_attention, from_attention_rstd = self._added(x, attended, self.o, xa_o, self.after_attention)
        dropout = self._dropout(context, _GATE_UP, self.gate_up)
        normed, dropped, middle_rstd = self._normed(middle, self.before_mlp, dropout)
        xa_gate_up = self.gate_up.times_a(dropped)  # (T, ranks)
        gate, up = self.gate_up.deferred(xa_gate_up, 2)
        deferred = gate is not None or up is not None
        gate_up = self.gate_up.forward(normed, None if deferred else xa_gate_up)  # (T, 2 × intermediate)
        del normed, dropped
        # (T, intermediate) twice, the same tensor without dropout
        dropout = self._dropout(context, _DOWN, self.down)
        activated, dropped = self.operations.dense.glu(gate_up, gate, up, dropout, self.activation)
        xa_down = self.down.times_a(dropped)  # (T, rank)
        y, from_mlp, from_mlp_rstd = self._added(middle, activated, self.down, xa_down, self.after_mlp)
        return y, SavedActivations(
            x, rstd, qkv, attended, lse, from_attention, from_attention_rstd, middle, middle_rstd, gate_up, from_mlp,
            from_mlp_rstd, xa_qkv, xa_o, xa_gate_up, xa_down,
        )  # fmt: skip

    def _normed(
        self, x: torch.Tensor, norm: NormWeights | None, dropout: Dropout | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What a block reads, (T, hidden); the same with dropout; the norm's rstd (T,). Without a norm `x` itself."""
        if norm is None:
            return x, self._dropped(x, dropout), None
        normed, dropped, rstd = self.operations.dense.rms_norm(x, norm.weight, norm.eps, dropout)
        return normed, dropped, rstd

    def _dropped(self, x: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        dropped: torch.Tensor = x if dropout is None else self.operations.dense.dropped(x, dropout)
        return dropped

    def _added(
        self, residual: torch.Tensor, x: torch.Tensor, linear: FusedLinear, xa: torch.Tensor | None, norm: NormWeights | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """`residual + norm(linear(x))`, (T, hidden); with a norm what it read and its rstd (T,)."""
        if norm is None:
            return linear.forward(x, xa, residual=residual), None, None
        given = linear.forward(x, xa)
        y, rstd = self.operations.dense.add_rms_norm(residual, given, norm.weight, norm.eps)
        return y, given, rstd

    def _attention_input(self, qkv: torch.Tensor, context: BatchContext) -> torch.Tensor:
        """Normed and rotated: in place, or where there are norms in a new tensor."""
        dense, angles = self.operations.dense, self._angles(context)
        if self.head_norms is None:
            return qkv if angles is None else dense.rotate_(qkv, angles, self.heads)
        together = self._turned_whole(angles)
        ready: torch.Tensor = dense.norm_heads(qkv, self.heads, self.head_norms, angles if together else None)
        return ready if angles is None or together else dense.rotate_(ready, angles, self.heads)

    def _attention_input_backward(self, dqkv: torch.Tensor, qkv: torch.Tensor, context: BatchContext) -> None:
        """The gradient for the projection's output over that for attention's input."""
        dense, angles = self.operations.dense, self._angles(context)
        together = self.head_norms is not None and self._turned_whole(angles)
        if angles is not None and not together:
            dense.rotate_(dqkv, angles, self.heads, back=True)
        if self.head_norms is not None:
            dense.norm_heads_backward_(dqkv, qkv, self.heads, self.head_norms, angles if together else None)

    def _angles(self, context: BatchContext) -> Angles | None:
        return None if self.rotation is None else context.angles[self.rotation]

    def _turned_whole(self, angles: Angles | None) -> bool:
        """Whether all features of a head are rotated: then the pairs that a norm reads are those that are turned."""
        return angles is not None and 2 * angles.cos.shape[-1] == self.heads.dim

    # ---------------------------------------------------------------------------------------------- backward

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
        # Without norms what is saved is what attention read.
        ready = saved.qkv if self.head_norms is None else self._attention_input(saved.qkv, context)
        seen, attend_backward = context.seen[self.window], self.operations.attention.attend_backward
        # (T, (query + 2 × key heads) × head_dim)
        dqkv = attend_backward(d, ready, saved.attended, saved.lse, self.heads, seen.first, seen.last)
        del d, ready
        self._attention_input_backward(dqkv, saved.qkv, context)
        return self._qkv_backward(dqkv, dmiddle, saved, context)

    def _given_backward(
        self, d: torch.Tensor, given: torch.Tensor | None, rstd: torch.Tensor | None, norm: NormWeights | None
    ) -> torch.Tensor:
        """Back through the norm behind a block, (T, hidden); `d` itself without one."""
        if norm is None:
            return d
        dx: torch.Tensor = self.operations.dense.rms_norm_backward(d, given, rstd, norm.weight, None)
        return dx

    def _mlp_backward(self, dy: torch.Tensor, saved: SavedActivations, context: BatchContext) -> torch.Tensor:
        """The gradient for what lies between attention and MLP, the residual path included."""
        given = self._given_backward(dy, saved.from_mlp, saved.from_mlp_rstd, self.after_mlp)  # (T, hidden)
        d, dxa, down = given @ self.down.matrix(), None, None  # `d`: (T, intermediate), the frozen weights' part
        if saved.xa_down is not None:
            dxa = self.down.b_backward(given, saved.xa_down)  # (T, rank)
            down = self.down.input_gradient_product(dxa)
        del given
        deferred, dropout = self.gate_up.deferred(saved.xa_gate_up, 2), self._dropout(context, _DOWN, self.down)
        # (T, 2 × intermediate), in the memory of `saved.gate_up`; with an adapter `d` becomes the activated gate after dropout
        dgate_up = self.operations.dense.glu_backward_(d, saved.gate_up, *deferred, down, dropout, self.activation)
        if dxa is not None:
            self.down.a_backward(dxa, d)
        del d
        dropout = self._dropout(context, _GATE_UP, self.gate_up)
        read = (saved.middle, saved.middle_rstd, self.before_mlp)
        return self._read_backward(dgate_up, self.gate_up, saved.xa_gate_up, read, dy, dropout)

    def _read_backward(
        self,
        dy: torch.Tensor,
        linear: FusedLinear,
        xa: torch.Tensor | None,
        read: tuple[torch.Tensor, torch.Tensor | None, NormWeights | None],
        residual: torch.Tensor,
        dropout: Dropout | None,
    ) -> torch.Tensor:
        """Back through a block's first linear layers, their adapters and the norm before them: (T, hidden).

        Args:
            dy: (T, outputs of `linear`).
            read: what the norm read (T, hidden), its rstd (T,), its weights; the last two None without a norm.
            residual: (T, hidden), the gradient that comes past the block.
        """
        dense, (x, rstd, norm) = self.operations.dense, read
        if norm is None:
            dx = torch.addmm(residual, dy, linear.matrix())
            return dx if xa is None else self._add(dx, linear, linear.backward(dy, self._dropped(x, dropout), xa), dropout)
        dnormed = dy @ linear.matrix()  # (T, hidden), the frozen weights' part of the gradient for the norm's output
        more = None  # (T, hidden), the adapters' part where dropout lies between
        if xa is not None:
            dxa = linear.backward(dy, dense.rms_norm_again(x, norm.weight, rstd, dropout), xa)  # (T, ranks)
            if dropout is None:
                linear.add_input_gradient_(dnormed, dxa)
            else:
                more = linear.input_gradient(dxa)
        through: torch.Tensor = dense.rms_norm_backward(dnormed, x, rstd, norm.weight, residual, more, dropout)
        return through

    def _add(self, d: torch.Tensor, linear: FusedLinear, dxa: torch.Tensor, dropout: Dropout | None) -> torch.Tensor:
        if dropout is None:
            return linear.add_input_gradient_(d, dxa)
        added: torch.Tensor = self.operations.dense.add_dropped_(d, linear.input_gradient(dxa), dropout)
        return added

    def _o_backward(self, dmiddle: torch.Tensor, saved: SavedActivations, context: BatchContext) -> torch.Tensor:
        """The gradient for the output of attention."""
        norm = self.after_attention
        given = self._given_backward(dmiddle, saved.from_attention, saved.from_attention_rstd, norm)  # (T, hidden)
        d = given @ self.o.matrix()  # (T, query heads × head_dim)
        if saved.xa_o is None:
            return d
        dropout = self._dropout(context, _O, self.o)
        dxa = self.o.backward(given, self._dropped(saved.attended, dropout), saved.xa_o)  # (T, rank)
        return self._add(d, self.o, dxa, dropout)

    def _qkv_backward(
        self, dqkv: torch.Tensor, dmiddle: torch.Tensor, saved: SavedActivations, context: BatchContext
    ) -> torch.Tensor:
        dropout, norm = self._dropout(context, _QKV, self.qkv), self.before_attention
        if self.number:
            return self._read_backward(dqkv, self.qkv, saved.xa_qkv, (saved.x, saved.rstd, norm), dmiddle, dropout)
        if saved.xa_qkv is not None:  # below are the frozen embeddings only: the adapters' gradients, and no more
            again = self.operations.dense.rms_norm_again
            dropped = again(saved.x, norm.weight, saved.rstd, dropout) if norm else self._dropped(saved.x, dropout)
            self.qkv.backward(dqkv, dropped, saved.xa_qkv)
        return dmiddle
