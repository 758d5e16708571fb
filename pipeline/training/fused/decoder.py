"""A whole model as fused layers: the loss of a micro-batch and its gradients in one call, without autograd.

Built over a `PeftModel`, whose weights it shares: checkpoints, optimizer and generation go on working with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.modeling.decoder_parts import LayerParts, Norm, describe
from pipeline.planning.memory_fused import LOGIT_BYTES
from pipeline.system.out_of_memory import is_out_of_memory
from pipeline.training.fused.backend import operations_for
from pipeline.training.fused.batch_context import BatchContext, seen_through
from pipeline.training.fused.cuda_graph import StepGraph
from pipeline.training.fused.decoder_layer import FusedLayer, NormWeights, SavedActivations
from pipeline.training.fused.flat_lora import FlatAdapter
from pipeline.training.fused.lora_linear import FusedLinear, Scratch
from pipeline.training.fused.torch_ops import Angles, Dropout, HeadNorms, Heads


@dataclass(frozen=True)
class FlatBatch:
    """A micro-batch on the device, all documents one after another: (T,) int32 each, T a multiple of `torch_ops.MULTIPLE`."""

    ids: torch.Tensor
    targets: torch.Tensor  # the token that each place predicts, negative where it is not trained
    positions: torch.Tensor  # within the document, from 0
    doc_start: torch.Tensor  # index of the first token of the document
    doc_end: torch.Tensor  # index behind its last
    weights: torch.Tensor | None = None  # (T,) float32, what the loss of each target is multiplied by; None for ones


class FusedModel:
    """The decoder of `adapted` (a `peft.PeftModel`), put together from the parts that it has.

    Args:
        compute: the dtype everything but sums is computed in.
        recomputed_layers: so many layers, the first ones, save their input only and run again in the backward pass.
        keep_dequantized: hold the quantized weights in the compute dtype as well, instead of de-quantizing them at each use.
        dropout: share of the adapters' inputs that is dropped.

    Attributes:
        adapter: the trained weights and their gradients.
        layers: in the order of the model.

    Raises:
        NotDescribed: its layers have other parts than `modeling.decoder_parts` has words for.
    """

    def __init__(
        self, adapted: Any, compute: torch.dtype, *, recomputed_layers: int, keep_dequantized: bool, dropout: float
    ) -> None:
        parts = self._parts = describe(adapted.get_base_model())
        self._head = parts.head.weight  # (vocabulary, hidden) compute
        self._recomputed, self._dropout = recomputed_layers, dropout
        self._graph: StepGraph | None = None
        self._wants_graph = False
        self.device = self._head.device
        self._operations = operations_for(self.device)
        self._compute = compute
        # A stream to which layers add their output times m is m times one to which they add it whole, and the norms they read it
        # through see no difference but in what is added to the mean square.
        self._stream = parts.layers[0].residual
        # Logits are linear in the last norm's weight.
        self._norm = NormWeights(parts.norm.weight() * parts.logit_scale, parts.norm.eps / self._stream**2)
        groups = [group for layer in parts.layers for group in layer.groups]
        scratch = Scratch()
        fused = [
            FusedLinear([_frozen(m) for m in group], compute, scratch, keep_dequantized=keep_dequantized) for group in groups
        ]
        self.adapter = FlatAdapter([_adapted(group, linear) for group, linear in zip(groups, fused, strict=True)], compute)
        for linear, adapters in zip(fused, self.adapter.groups, strict=True):
            linear.adapters = adapters
        self.layers = [
            self._layer(number, layer, fused[4 * number : 4 * number + 4]) for number, layer in enumerate(parts.layers)
        ]

    def _layer(self, number: int, layer: LayerParts, linear: list[FusedLinear]) -> FusedLayer:
        """Args: linear: in the order of `LayerParts.groups`."""
        qkv, o, gate_up, down = linear
        return FusedLayer(
            number=number,
            operations=self._operations,
            heads=Heads(layer.heads, layer.key_heads, layer.head_dim, layer.scale),
            before_attention=self._weights_of(layer.before_attention),
            after_attention=self._weights_of(layer.after_attention),
            before_mlp=self._weights_of(layer.before_mlp),
            after_mlp=self._weights_of(layer.after_mlp),
            head_norms=_head_norms(layer),
            rotation=layer.rotation,
            window=layer.window,
            activation=layer.activation,
            qkv=qkv,
            o=o,
            gate_up=gate_up,
            down=down,
        )

    def _weights_of(self, norm: Norm | None) -> NormWeights | None:
        return None if norm is None else NormWeights(norm.weight(), norm.eps / self._stream**2)

    @torch.no_grad()
    def loss_and_gradients(self, batch: FlatBatch, scale: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """`scale × the sum of the losses` of a micro-batch, in nats, (1,) float32; its gradients are added to the parameters'.

        Args:
            scale: (1,) float32: one over the trained tokens of the optimizer step.
            key: (1,) int64: what dropout's masks follow from.

        Raises:
            torch.OutOfMemoryError: the gradients of the adapter are as they were before.
        """
        context = self._context(batch, Dropout(self._dropout, key, 0) if self._dropout else None)
        if self._graph is not None and self._graph.tokens == batch.ids.numel():
            return self._graph(batch.ids, batch.targets, context, scale, batch.weights)
        loss = self.step(batch.ids, batch.targets, context, scale, batch.weights)
        if self._wants_graph:
            self._record(batch, context, scale)
        return loss

    @torch.no_grad()
    def undropped_loss_and_gradients(self, batch: FlatBatch, scale: torch.Tensor) -> torch.Tensor:
        """As `loss_and_gradients`, with nothing dropped and nothing recorded."""
        return self.step(batch.ids, batch.targets, self._context(batch, None), scale, batch.weights)

    def _record(self, batch: FlatBatch, context: BatchContext, scale: torch.Tensor) -> None:
        self._wants_graph = False
        try:
            self._graph = StepGraph(self.step, batch.ids, batch.targets, context, scale, batch.weights)
        except RuntimeError as error:  # a recording that is broken off does not always raise torch's own type
            if not is_out_of_memory(error):
                raise
            self._graph = None
            torch.cuda.empty_cache()

    def use_graph(self, wanted: bool) -> None:
        """Record the next micro-batch and replay it for all of its size; or, where not `wanted`, give its memory back."""
        replayed = self._graph is not None
        self._wants_graph, self._graph = wanted, None
        if replayed:
            torch.cuda.empty_cache()  # its activations' memory comes free with that only

    @property
    def replayed_tokens(self) -> int:
        """The size of the micro-batches that are replayed; 0 where none are."""
        return self._graph.tokens if self._graph is not None else 0

    @torch.no_grad()
    def step(
        self,
        ids: torch.Tensor,
        targets: torch.Tensor,
        context: BatchContext,
        scale: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """All the work of `loss_and_gradients`: nothing in it waits for the device or depends on a number that is there.

        Args:
            ids, targets: (T,) int32.
            scale: (1,) float32.
            weights: (T,) float32, of the targets; None for ones.

        Returns:
            `scale × the sum of the losses`, each times its weight, (1,) float32.
        """
        self.adapter.refresh()
        x, saved = self._embedded(ids), list[SavedActivations | torch.Tensor]()  # one entry a layer
        for layer in self.layers:
            before = x
            x, activations = layer.forward(x, context)
            saved.append(before if layer.number < self._recomputed else activations)
            del activations, before  # else a recomputed layer's would lie there through the next layer's forward pass
        loss, d = self._loss(x, targets, scale, weights, gradient=True)  # (1,) float32, (T, hidden) compute
        del x
        for layer in reversed(self.layers):
            d = layer.backward(d, self._activations(layer, saved.pop(), context), context)
        self.adapter.add_new_gradients()
        return loss * scale

    def _activations(self, layer: FusedLayer, saved: SavedActivations | torch.Tensor, context: BatchContext) -> SavedActivations:
        """Those saved; where only the layer's input was, they are made again."""
        return saved if isinstance(saved, SavedActivations) else layer.forward(saved, context)[1]

    @torch.no_grad()
    def loss_sum(self, batch: FlatBatch) -> torch.Tensor:
        """The sum of the losses of a micro-batch in nats, (1,) float32, without dropout."""
        self.adapter.refresh()
        context, x = self._context(batch, None), self._embedded(batch.ids)
        for layer in self.layers:
            x, _ = layer.forward(x, context)
        return self._loss(x, batch.targets, torch.ones(1, device=self.device), batch.weights, gradient=False)[0]

    def recompute(self) -> None:
        """This and the next two: see `activation_checkpointing.Activations`."""
        self._recomputed = len(self.layers)
        self.use_graph(False)

    def are_recomputed(self) -> bool:
        return self._recomputed == len(self.layers)

    def can_be_recomputed(self) -> bool:
        return True

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self._parts.embedding(ids).to(self._compute)  # (T, hidden) compute
        scale = self._parts.embedding_scale / self._stream
        return x if scale == 1 else x * scale

    def _context(self, batch: FlatBatch, dropout: Dropout | None) -> BatchContext:
        rotations = sorted({layer.rotation for layer in self.layers if layer.rotation is not None})
        angles = {name: self._angles(batch.positions, name) for name in rotations}
        seen = seen_through((layer.window for layer in self.layers), batch.doc_start, batch.doc_end)
        return BatchContext(angles, seen, dropout)

    def _angles(self, positions: torch.Tensor, rotation: str) -> Angles:
        like = torch.empty(0, dtype=self._compute, device=self.device)  # rotary_emb reads its dtype and device only
        more = (rotation,) if rotation else ()
        cos, sin = self._parts.rotary(like, positions[None].long(), *more)  # (1, T, features that are turned) compute
        half = cos.shape[-1] // 2  # transformers repeats each angle for the second of a pair
        return Angles(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())  # (T, half) compute

    def _loss(
        self, x: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, weights: torch.Tensor | None, *, gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the losses, (1,) float32, and the gradient of `scale` times that for `x` (T, hidden), of its shape;
        without `gradient` the second is never to be read."""
        dense, norm = self._operations.dense, self._norm
        normed, _, rstd = dense.rms_norm(x, norm.weight, norm.eps)  # (T, hidden) compute, -, (T,) float32
        losses = []
        for part in split_by_logits(x.shape[0], self._head.shape[0], x.element_size()):
            logits = normed[part] @ self._head.t()  # (part, vocabulary) compute
            weight = None if weights is None else weights[part]
            losses.append(dense.cross_entropy_(logits, targets[part], scale, weight, gradient=gradient))  # (part,) float32
            if gradient:  # `logits` is its own gradient now, and this part of `normed` has been read
                torch.mm(logits, self._head, out=normed[part])
            del logits  # before the next part asks for as much
        total = torch.cat(losses).sum().reshape(1)
        return total, dense.rms_norm_backward(normed, x, rstd, norm.weight, None) if gradient else x


def split_by_logits(tokens: int, vocabulary: int, item: int) -> list[slice]:
    """Stretches of the tokens whose logits take about `LOGIT_BYTES`: whole, they would be the largest tensor of a step.

    Args:
        tokens: of the micro-batch.
        item: bytes of a logit.
    """
    together = max(128, LOGIT_BYTES // (vocabulary * item) // 128 * 128)  # tokens
    return [slice(start, min(start + together, tokens)) for start in range(0, tokens, together)]


def _head_norms(layer: LayerParts) -> HeadNorms | None:
    query, key = layer.query_norm, layer.key_norm
    if query is None or key is None:
        return None
    whole = query.features != layer.head_dim
    weights = torch.cat([query.weight(), key.weight()]).view(-1, layer.head_dim)  # (2 or all heads, head_dim) float32
    return HeadNorms(weights, query.eps, whole)


def _frozen(module: Any) -> nn.Module:
    base: nn.Module = getattr(module, "base_layer", module)
    return base


def _adapted(group: Sequence[Any], linear: FusedLinear) -> list[tuple[Any | None, int]]:
    layers = [module if hasattr(module, "lora_A") else None for module in group]
    return list(zip(layers, linear.outputs, strict=True))
