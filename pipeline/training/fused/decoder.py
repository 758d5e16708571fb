"""A whole model as fused layers: the loss of a micro-batch and its gradients in one call, without autograd.

Built over a `PeftModel`, whose weights it shares: checkpoints, optimizer and generation go on working with that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.planning.memory_fused import LOGIT_BYTES
from pipeline.system.out_of_memory import is_out_of_memory
from pipeline.training.fused.backend import operations_for
from pipeline.training.fused.cuda_graph import StepGraph
from pipeline.training.fused.decoder_layer import FusedLayer, Kept, Tokens, layer_weights
from pipeline.training.fused.flat_lora import FlatAdapter
from pipeline.training.fused.lora_linear import FusedLinear, Scratch
from pipeline.training.fused.torch_ops import Dropout, Heads


@dataclass(frozen=True)
class Batch:
    """A micro-batch on the device, all documents one after another: (T,) int32 each.

    Attributes:
        targets: the token that each place predicts, negative where it is not trained.
        positions: within the document; `first` and `last`: see `reference`.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor


class FusedModel:
    """The decoder of `adapted` (a `peft.PeftModel` of a Llama, Mistral or Qwen 2 model).

    Args:
        compute: the type everything but sums is computed in.
        recomputed_layers: so many layers, the first ones, keep their input only and run again in the backward pass.
        keep_dequantized: hold the 4-bit weights in the compute type as well, instead of de-quantizing them at each use.
        dropout: share of the adapters' inputs that is dropped.
    """

    def __init__(
        self, adapted: Any, compute: torch.dtype, *, recomputed_layers: int, keep_dequantized: bool, dropout: float
    ) -> None:
        causal = adapted.get_base_model()
        self._decoder, self._head = causal.model, causal.lm_head.weight
        self._recomputed, self._dropout = recomputed_layers, dropout
        self._graph: StepGraph | None = None
        self._wants_graph = False
        self.device = self._head.device
        self._operations = operations_for(self.device)
        self._compute = compute
        groups = [group for layer in self._decoder.layers for group in layer_weights(layer)]
        scratch = Scratch()
        fused = [FusedLinear([_frozen(m) for m in group], compute, scratch, kept=keep_dequantized) for group in groups]
        self.adapter = FlatAdapter([_adapted(group, linear) for group, linear in zip(groups, fused, strict=True)], compute)
        for linear, low_rank in zip(fused, self.adapter.low_rank, strict=True):
            linear.low_rank = low_rank
        self.layers = [
            self._layer(number, layer, fused[4 * number : 4 * number + 4]) for number, layer in enumerate(self._decoder.layers)
        ]

    def _layer(self, number: int, layer: Any, linear: list[FusedLinear]) -> FusedLayer:
        attention, config = layer.self_attn, self._decoder.config
        heads = Heads(config.num_attention_heads, config.num_key_value_heads, attention.head_dim, attention.scaling)
        norms = (layer.input_layernorm.weight.data, layer.post_attention_layernorm.weight.data)
        return FusedLayer(number, self._operations, heads, config.rms_norm_eps, *norms, *linear)

    @torch.no_grad()
    def loss_and_gradients(self, batch: Batch, scale: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """`scale × the sum of the losses` of a micro-batch, in nats, (1,); its gradients are added to the parameters'.

        Args:
            scale: (1,) in 32 bits: one over the trained tokens of the optimizer step.
            key: (1,) int64: what dropout's masks follow from.
        """
        tokens = self._tokens(batch, Dropout(self._dropout, key, 0) if self._dropout else None)
        if self._graph is not None and self._graph.tokens == batch.ids.numel():
            return self._graph(batch.ids, batch.targets, tokens, scale)
        loss = self.step(batch.ids, batch.targets, tokens, scale)
        if self._wants_graph:
            self._record(batch, tokens, scale)
        return loss

    def _record(self, batch: Batch, tokens: Tokens, scale: torch.Tensor) -> None:
        self._wants_graph = False
        try:
            self._graph = StepGraph(self.step, batch.ids, batch.targets, tokens, scale)
        except RuntimeError as error:  # a recording that is broken off does not always say it in torch's own type
            if not is_out_of_memory(error):
                raise
            self._graph = None
            torch.cuda.empty_cache()

    def use_graph(self, wanted: bool) -> None:
        """Record the next micro-batch and replay it for all of its size; or give its memory back."""
        replayed = self._graph is not None
        self._wants_graph, self._graph = wanted, None
        if replayed:
            torch.cuda.empty_cache()  # its activations' memory comes free with that only

    @property
    def replayed_tokens(self) -> int:
        """The size of the micro-batches that are replayed; 0 where none are."""
        return self._graph.tokens if self._graph is not None else 0

    @torch.no_grad()
    def step(self, ids: torch.Tensor, targets: torch.Tensor, tokens: Tokens, scale: torch.Tensor) -> torch.Tensor:
        """All the work of `loss_and_gradients`: nothing in it waits for the device or depends on a number that is there."""
        self.adapter.refresh()
        x, kept = self._embedded(ids), list[Kept | torch.Tensor]()
        for layer in self.layers:
            before = x
            x, found = layer.forward(x, tokens)
            kept.append(before if layer.number < self._recomputed else found)
            del found, before
        loss, d = self._loss(x, targets, scale, gradient=True)
        del x
        for layer in reversed(self.layers):
            d = layer.backward(d, self._kept_of(layer, kept.pop(), tokens), tokens)
        self.adapter.add_new_gradients()
        return loss * scale

    def _kept_of(self, layer: FusedLayer, kept: Kept | torch.Tensor, tokens: Tokens) -> Kept:
        return kept if isinstance(kept, Kept) else layer.forward(kept, tokens)[1]

    @torch.no_grad()
    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """The sum of the losses of a micro-batch in nats, (1,), without dropout."""
        self.adapter.refresh()
        tokens, x = self._tokens(batch, None), self._embedded(batch.ids)
        for layer in self.layers:
            x, _ = layer.forward(x, tokens)
        return self._loss(x, batch.targets, torch.ones(1, device=self.device), gradient=False)[0]

    def recompute(self) -> None:
        """See `activations.Activations`."""
        self._recomputed = len(self.layers)
        self.use_graph(False)

    def are_recomputed(self) -> bool:
        return self._recomputed == len(self.layers)

    def can_be_recomputed(self) -> bool:
        return True

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, self._decoder.embed_tokens.weight).to(self._compute)

    def _tokens(self, batch: Batch, dropout: Dropout | None) -> Tokens:
        like = torch.empty(0, dtype=self._compute, device=self.device)
        cos, sin = self._decoder.rotary_emb(like, batch.positions[None])
        half = cos.shape[-1] // 2
        cos, sin = cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
        return Tokens(cos, sin, batch.first, batch.last, dropout)

    def _loss(
        self, x: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor, *, gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the losses, (1,), and the gradient of `scale` times that for `x`, which without `gradient` is never read."""
        dense, norm = self._operations.dense, self._decoder.norm
        normed, _, rstd = dense.rms_norm(x, norm.weight.data, norm.variance_epsilon)
        losses = []
        for part in split_by_logits(x.shape[0], self._head.shape[0], x.element_size()):
            logits = normed[part] @ self._head.t()
            losses.append(dense.cross_entropy_(logits, targets[part], scale, gradient=gradient))
            if gradient:
                torch.mm(logits, self._head, out=normed[part])
            del logits
        total = torch.cat(losses).sum().reshape(1)
        return total, dense.rms_norm_backward(normed, x, rstd, norm.weight.data, None) if gradient else x


def split_by_logits(tokens: int, vocabulary: int, item: int) -> list[slice]:
    """Stretches of the tokens whose logits take about `LOGIT_BYTES`: whole, they would be the largest tensor of a step."""
    together = max(128, LOGIT_BYTES // (vocabulary * item) // 128 * 128)
    return [slice(start, min(start + together, tokens)) for start in range(0, tokens, together)]


def _frozen(module: Any) -> nn.Module:
    base: nn.Module = getattr(module, "base_layer", module)
    return base


def _adapted(group: list[Any], linear: FusedLinear) -> list[tuple[Any | None, int]]:
    layers = [module if hasattr(module, "lora_A") else None for module in group]
    return list(zip(layers, linear.outputs, strict=True))
