"""Do the fused layers compute what the model's own do, in loss and gradient, on conversations of the run? Part of the proof at
load: see `training.proof`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.modeling.decoder_parts import NotDescribed, describe
from pipeline.planning.compute import no_kernel
from pipeline.planning.plan import Plan
from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.train_step import flatten_batch
from pipeline.training.loss import loss_sum
from pipeline.training.packed_rows import Document, collate

HEAD = 4  # first tokens of a document, where what the one before left behind is strongest
LONGEST_WINDOW = {"cpu": 64, "cuda": 1024}  # tokens: up to here a document longer than it is worth its time
_CUT = {"cpu": 32, "cuda": 128}  # tokens of a real document that a gradient is made of
_CUT_DOCUMENTS = 4
# Of the loss and, twice as large as two backward passes in that type were seen to differ, of the gradient.
_FUSED_ROUNDING = {"float32": (1e-4, 1e-3), "bfloat16": (1e-2, 0.15), "float16": (1e-2, 0.15)}
# Where a model makes much of little: so many times what one rounding of its embeddings makes of the gradient, but never more than
# this. Fused and own layers were seen to differ by 0.7 to 1.2 times that, in ten families.
_OF_A_ROUNDING, _MOST_OF_A_GRADIENT = 2.5, 0.75
_ADAPTER_STD = 0.02  # of B while the fused layers are asked: at zero, an adapter would not be asked about
NO_NUMBER = 1e9  # in the place of a difference


def fused_problem(causal: Any, device: str) -> str:
    """Why the fused layers need not be built over a model and asked; empty where they must.

    Args:
        causal: of transformers, without peft around it.
        device: "cuda" or "cpu".
    """
    try:
        layers = describe(causal).layers
    except NotDescribed as reason:
        return str(reason)
    without = (no_kernel(layer.head_dim) for layer in layers) if device == "cuda" else ()
    return next(filter(None, without), "")


def fused_difference(model: Any, fused: FusedModel, plan: Plan, documents: Sequence[Document]) -> tuple[float, str]:
    """(the relative difference of the gradients; what is wrong, empty where nothing is).

    The model's own layers get each document alone, the fused ones all in one row: that they keep them apart is part of it.
    """
    cut = _CUT[plan.device]
    longest = max(documents, key=lambda each: len(each.ids))
    some = [_beginning(each, cut) for each in documents[:_CUT_DOCUMENTS]] + _over_the_window(model, plan, longest)
    most_loss, most_gradient = _FUSED_ROUNDING[plan.compute_dtype]
    with _with_an_adapter_that_does_something(model) as weights:
        own_loss = _own_loss_and_gradients(model, some)
        own = _taken_gradients(weights)
        fused_loss = _fused_loss_and_gradients(fused, some)
        gradient = _taken_gradients(weights)
        difference = float((gradient - own).norm() / own.norm().clamp(min=1e-30))
        losses = [(own_loss, fused_loss), _losses_at_the_end(model, fused, longest.ids[: plan.row_tokens])]
        if difference > most_gradient and plan.compute_dtype != "float32":
            with last_places_off(causal_of(model), getattr(torch, plan.compute_dtype)):
                _own_loss_and_gradients(model, some)
            rounding = float((_taken_gradients(weights) - own).norm() / own.norm().clamp(min=1e-30))
            most_gradient = max(most_gradient, min(_MOST_OF_A_GRADIENT, _OF_A_ROUNDING * rounding))
    if not all(math.isfinite(own) for own, _ in losses) or not own.isfinite().all():
        return 0.0, ""  # nothing can be said of a model that computes no numbers; its first step will say it
    off = max(abs(ours / theirs - 1) if math.isfinite(ours) else NO_NUMBER for theirs, ours in losses)
    difference = difference if math.isfinite(difference) else NO_NUMBER
    if off <= most_loss and difference <= most_gradient:
        return difference, ""
    return difference, (
        f"the fused ones compute something else than this model's own: the loss differs by {100 * off:.2g} %, the gradient by "
        f"{100 * difference:.2g} %"
    )


def _beginning(document: Document, tokens: int) -> Document:
    """The first tokens of a document with their labels and weights; where none of them has a label, all have one."""
    ids, labels = document.ids[:tokens].astype(np.int64), document.labels[:tokens].astype(np.int64)
    weights = None if document.weights is None else document.weights[:tokens]
    return Document(ids, labels if (labels != NOT_TRAINED).any() else ids, weights)


def _over_the_window(model: Any, plan: Plan, longest: Document) -> list[Document]:
    """Where the attention's window is short and ends inside the longest document, so much of that, its last tokens labelled."""
    window, cut = window_of(causal_of(model).config), _CUT[plan.device]
    if not 0 < window < len(longest.ids) or window > min(LONGEST_WINDOW[plan.device], plan.row_tokens):
        return []
    ids = longest.ids[: window + HEAD].astype(np.int64)
    return [Document(ids, np.where(np.arange(len(ids)) < len(ids) - cut, NOT_TRAINED, ids))]


@contextmanager
def _with_an_adapter_that_does_something(model: Any) -> Iterator[list[nn.Parameter]]:
    """The trained weights, with random ones for B; zero again and without gradients afterwards."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    zeros = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and not parameter.any()]
    draw = torch.Generator(weights[0].device).manual_seed(0)
    try:
        for parameter in zeros:
            parameter.data.normal_(std=_ADAPTER_STD, generator=draw)
        yield weights
    finally:
        for parameter in zeros:
            parameter.data.zero_()
        for parameter in weights:
            parameter.grad = None


@contextmanager
def last_places_off(causal: Any, dtype: torch.dtype) -> Iterator[None]:
    """Every number of the token embeddings, (rows, tokens, hidden), is a last place of `dtype` larger or smaller."""

    def off(_module: nn.Module, _inputs: Any, found: torch.Tensor) -> torch.Tensor:
        draw = torch.Generator(found.device).manual_seed(0)
        sign = torch.randint(0, 2, found.shape, generator=draw, device=found.device) * 2 - 1
        return found * (1 + torch.finfo(dtype).eps * sign).to(found.dtype)

    hook = causal.get_input_embeddings().register_forward_hook(off)
    try:
        yield
    finally:
        hook.remove()


def _own_loss_and_gradients(model: Any, documents: Sequence[Document]) -> float:
    """Nats, of all documents together; the gradients are left at the parameters."""
    total, device = 0.0, next(model.parameters()).device
    for document in documents:
        batch = collate([[document]])
        first = int((batch["labels"][0] != NOT_TRAINED).nonzero()[0])
        keep = len(document.ids) - max(0, first - 1)  # from the token that predicts the first label on
        logits = model(input_ids=batch["input_ids"].to(device), use_cache=False, logits_to_keep=keep).logits
        weights = batch["weights"][:, -keep:].to(device) if "weights" in batch else None
        loss = loss_sum(logits, batch["labels"][:, -keep:].to(device), weights)
        torch.autograd.backward(loss)
        total += float(loss.detach())
    return total


def _taken_gradients(weights: Sequence[nn.Parameter]) -> torch.Tensor:
    """(trained weights,) float32, taken away from the parameters."""
    taken = torch.cat(
        [torch.zeros_like(weight).flatten() if weight.grad is None else weight.grad.flatten() for weight in weights]
    )
    for weight in weights:
        weight.grad = None
    return taken


def _fused_loss_and_gradients(fused: FusedModel, documents: Sequence[Document]) -> float:
    """As `_own_loss_and_gradients`, without dropout."""
    fused.adapter.hand_out_gradients()
    batch = flatten_batch(collate([list(documents)]), fused.device)
    return float(fused.undropped_loss_and_gradients(batch, torch.ones(1, device=fused.device)))


@torch.no_grad()
def _losses_at_the_end(model: Any, fused: FusedModel, ids: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The losses of the last tokens of the longest document, nats: (the model's own layers', the fused ones').

    Where a window ends inside it, those are the ones that differ. Only their logits are made.
    """
    count = min(len(ids) - 1, _CUT["cuda"])
    labels = np.full(len(ids), NOT_TRAINED, np.int64)
    labels[-count:] = ids[-count:]
    batch = collate([[Document(ids.astype(np.int64), labels)]])
    moved = {name: batch[name].to(fused.device) for name in ("input_ids", "labels")}
    logits = model(input_ids=moved["input_ids"], use_cache=False, logits_to_keep=count + 1).logits
    own = loss_sum(logits, moved["labels"][:, -count - 1 :])
    return float(own), float(fused.loss_sum(flatten_batch(batch, fused.device)))


def window_of(config: Any) -> int:
    """The shortest window that a (text) config names; 0 without one."""
    config = config.get_text_config()
    named = [getattr(config, name, None) for name in ("sliding_window", "attention_window_size", "window_size")]
    return min([each for each in named if isinstance(each, int) and each > 0], default=0)


def causal_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
