"""The proof at load: what a name suggests of a model's layers is asked of the layers that will train, in a few short passes.

Two questions. Do conversations that share a row compute what each computes alone? And do the fused layers compute what the
model's own do, in loss and gradient, on conversations of the run? Where the answer is no, the run goes another way and says so;
nothing is trained on a promise. A pass has a few dozen tokens, so that it needs less memory than any micro-batch; no weight,
gradient or random generator is another one after it.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.modeling.decoder_parts import NotDescribed, describe
from pipeline.planning.compute import Isolation, no_kernel
from pipeline.planning.plan import Plan
from pipeline.runs.events import LayersProved
from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.training import attention
from pipeline.training.checkpointing import random_state
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.train_step import flatten_batch
from pipeline.training.isolation import Batch, model_inputs
from pipeline.training.loss import loss_sum
from pipeline.training.packed_rows import Document, PackedRow, collate

# Tokens of the made-up documents: each but the first has another before it, and all are longer than a convolution sees.
_LENGTHS = (9, 21, 6, 17, 11)
_HEAD = 4  # first tokens of a document, where what the one before left behind is strongest
_LONGEST_WINDOW = {"cpu": 64, "cuda": 1024}  # tokens: up to here a document longer than it is worth its time
_CUT = {"cpu": 32, "cuda": 128}  # tokens of a real document that a gradient is made of
_CUT_DOCUMENTS = 4
# Relative differences that rounding explains; in 16 bits also this many times what rounding was seen to make of this model.
_ROUNDING = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}
_SEEN_ROUNDING = 4
# Of the loss and, twice as large as two backward passes in that type were seen to differ, of the gradient.
_FUSED_ROUNDING = {"float32": (1e-4, 1e-3), "bfloat16": (1e-2, 0.15), "float16": (1e-2, 0.15)}
_ADAPTER_STD = 0.02  # of B while the fused layers are asked: at zero, an adapter would not be asked about


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        event: of the layers as they would train, for the log; None where nothing was asked.
        no_packing, no_fused: why the plan can't be trained as it is; empty where it can.
    """

    event: LayersProved | None = None
    no_packing: str = ""
    no_fused: str = ""


def prove(model: Any, fused: FusedModel | None, plan: Plan, documents: Sequence[Document]) -> Proof:
    """Ask the layers that will train.

    Args:
        model: a `PeftModel` with a new adapter, loaded as `plan` says.
        fused: the fused layers over it, where the plan has them.
        documents: some of the run's; their ids are what the made-up ones are made of.

    Returns:
        with `event.how` as the plan's isolation, or "mask" or "indices" where only that keeps packed documents apart.
    """
    began = time.perf_counter()
    with random_state.preserved(), _as_in_training(model):
        if fused is not None:
            difference, problem = _fused_difference(model, fused, plan, documents)
            how: Isolation = "positions" if plan.isolation != "rows" else "rows"
            seconds = time.perf_counter() - began
            event = LayersProved(not problem, how, not problem, difference, difference, problem, seconds)
            return Proof(event, no_fused=problem)
        found = _isolation(model, plan, documents)
    seconds = time.perf_counter() - began
    event = LayersProved(not found.problem, found.how, None, found.difference, None, found.problem, seconds)
    return Proof(event, no_packing=found.problem if plan.isolation != "rows" else "")


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


# ------------------------------------------------------------------------------------------- the model as it trains


@contextmanager
def _as_in_training(model: Any) -> Iterator[None]:
    """In training mode, since some layers compute another way in it, but with nothing dropped; all as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    dropped = list(_dropouts(model))
    model.train()
    try:
        for owner, name, _ in dropped:
            setattr(owner, name, 0.0)
        yield
    finally:
        for owner, name, share in dropped:
            setattr(owner, name, share)
        for module, training in modes:
            module.training = training


def _dropouts(model: Any) -> Iterator[tuple[Any, str, float]]:
    """(owner, attribute, share) of each random number in the model's layers."""
    for owner in (*model.modules(), *{id(config): config for config in _configs(model)}.values()):
        for name, value in list(vars(owner).items()):
            random = "drop" in name or "jitter" in name or (name == "p" and isinstance(owner, nn.Dropout))
            if random and isinstance(value, float) and value:
                yield owner, name, value


def _configs(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if hasattr(module, "config") and not isinstance(module.config, dict):
            yield module.config


# ----------------------------------------------------------------------------------------------------- isolation


@dataclass(frozen=True)
class _Found:
    how: Isolation
    difference: float
    problem: str = ""


def _isolation(model: Any, plan: Plan, documents: Sequence[Document]) -> _Found:
    """How documents are kept apart in the model's own layers: as the plan says, else by a mask or indices, else not in a row."""
    made_up = _made_up(model, plan, documents)
    asked = _Asked(model, plan, made_up)
    if plan.isolation == "rows":
        difference, apart = asked.apart("rows")
        return _Found("rows", difference, "" if apart else "rows of a micro-batch are not independent of each other")
    takes_positions = "position_ids" in inspect.signature(_causal(model).forward).parameters
    difference, apart = asked.apart("positions") if takes_positions else (1.0, False)
    if apart:
        return _Found("positions", difference)
    others: tuple[Isolation, ...] = ("mask", "indices")
    for how in others if takes_positions else ():
        otherwise, apart = asked.apart(how)
        if apart:
            return _Found(how, otherwise)
    return _Found("rows", difference, f"packed conversations see each other in this model's layers: {_differ(difference)}")


def _differ(difference: float) -> str:
    return (
        f"beside others and alone their logits differ by {100 * difference:.0f} %"
        if difference >= 0.01
        else (f"beside others and alone their logits differ by {difference:.0e}")
    )


class _Asked:
    """The made-up documents' logits alone, once, and what they are in a layout."""

    def __init__(self, model: Any, plan: Plan, documents: Sequence[Document]) -> None:
        self._model, self._plan, self._documents = model, plan, documents
        self._device = next(model.parameters()).device
        self._alone = [self._logits({"input_ids": torch.from_numpy(each.ids)[None]})[0] for each in documents]

    def apart(self, isolation: Isolation) -> tuple[float, bool]:
        """(the difference of the documents' logits, relative; whether rounding explains it)."""
        try:
            difference = max(self._difference(batch, isolation) for batch in self._batches(isolation))
        except (TypeError, ValueError):
            if isolation not in ("mask", "indices"):
                raise
            return 1.0, False  # layers that refuse what might have kept documents apart, or that it is not for
        rounding = _ROUNDING[self._plan.compute_dtype]
        if difference <= rounding or self._plan.compute_dtype == "float32":
            return difference, difference <= rounding
        return difference, difference <= _SEEN_ROUNDING * self._rounding(isolation)

    def _rounding(self, isolation: Isolation) -> float:
        """What rounding makes of the documents' logits, relative: other shapes of the same pass and, where those are asked
        about, embeddings that are off by a last place."""
        if isolation != "rows":
            return self._difference(collate([[each] for each in self._documents]), "rows")
        with _last_places_off(_causal(self._model), getattr(torch, self._plan.compute_dtype)):
            off = [self._logits({"input_ids": torch.from_numpy(each.ids)[None]})[0] for each in self._documents]
        return float(np.median([_relative(found, alone) for found, alone in zip(off, self._alone, strict=True)][1:]))

    def _batches(self, isolation: Isolation) -> Iterator[Batch]:
        """As training collates them and, where that differs, as the held-out loss does."""
        rows: list[PackedRow] = [[each] for each in self._documents] if isolation == "rows" else [list(self._documents)]
        yield attention.collator(self._plan.attention)(rows)
        if self._plan.attention == "varlen":
            yield collate(rows)

    def _difference(self, batch: Batch, isolation: Isolation) -> float:
        """The largest of the documents'; in 16 bits, where an expert may be chosen by a rounding, the median."""
        inputs = model_inputs(batch, isolation, self._device)
        logits = self._logits({name: value for name, value in inputs.items() if name not in _NOT_FOR_THE_MODEL})
        together = self._cut(logits, batch["input_ids"].shape)
        if not all(alone.isfinite().all() for alone in self._alone):
            return 0.0  # nothing can be said of a model that computes no numbers; its first step will say it
        found = [_relative(each, alone) for each, alone in zip(together, self._alone, strict=True)][1:]
        return float(max(found) if self._plan.compute_dtype == "float32" else np.median(found))

    def _cut(self, logits: torch.Tensor, shape: torch.Size) -> list[torch.Tensor]:
        """(tokens, vocabulary) of each document."""
        lengths = [len(each.ids) for each in self._documents]
        flat = logits.flatten(0, 1)
        in_rows = flat.shape[0] != sum(lengths)  # padded, one to a row
        width = max(lengths) if in_rows else 0
        starts = [width * number for number in range(len(lengths))] if in_rows else np.cumsum([0, *lengths[:-1]]).tolist()
        return [flat[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    @torch.no_grad()
    def _logits(self, inputs: Batch) -> torch.Tensor:
        """(rows, tokens, vocabulary) float32."""
        moved = {name: value.to(self._device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        logits: torch.Tensor = self._model(**moved, use_cache=False).logits.float()
        return logits


@contextmanager
def _last_places_off(causal: Any, dtype: torch.dtype) -> Iterator[None]:
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


_NO_NUMBER = 1e9  # in the place of a difference
_NOT_FOR_THE_MODEL = ("labels", "weights", "real_tokens", "trained_tokens")


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far logits (tokens, vocabulary) are from others, over all tokens or over the first, whichever is more."""

    def over(tokens: slice) -> float:
        spread = wanted[tokens] - wanted[tokens].mean(-1, keepdim=True)  # what all logits share says nothing
        return float((found[tokens] - wanted[tokens]).norm() / spread.norm().clamp(min=1e-30))

    if not found.isfinite().all():
        return _NO_NUMBER
    return max(over(slice(None)), over(slice(_HEAD)))


def _made_up(model: Any, plan: Plan, documents: Sequence[Document]) -> list[Document]:
    """Documents of the run's own ids in an order that means nothing; one longer than the attention's window where it is short."""
    ids = np.unique(np.concatenate([each.ids for each in documents]))
    draw = np.random.default_rng(0)
    window = _window(_causal(model).config)
    lengths = list(_LENGTHS)
    if 0 < window <= min(_LONGEST_WINDOW[plan.device], plan.row_tokens):
        lengths[1] = window + _HEAD
    made = [draw.choice(ids, length).astype(np.int64) for length in lengths]
    return [Document(each, each) for each in made]


def _window(config: Any) -> int:
    """The shortest window that a (text) config names; 0 without one."""
    config = config.get_text_config()
    named = [getattr(config, name, None) for name in ("sliding_window", "attention_window_size", "window_size")]
    return min([each for each in named if isinstance(each, int) and each > 0], default=0)


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


# --------------------------------------------------------------------------------------------- fused as the model's own


def _fused_difference(model: Any, fused: FusedModel, plan: Plan, documents: Sequence[Document]) -> tuple[float, str]:
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
    if not all(math.isfinite(own) for own, _ in losses) or not own.isfinite().all():
        return 0.0, ""  # nothing can be said of a model that computes no numbers; its first step will say it
    off = max(abs(ours / theirs - 1) if math.isfinite(ours) else _NO_NUMBER for theirs, ours in losses)
    difference = difference if math.isfinite(difference) else _NO_NUMBER
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
    window, cut = _window(_causal(model).config), _CUT[plan.device]
    if not 0 < window < len(longest.ids) or window > min(_LONGEST_WINDOW[plan.device], plan.row_tokens):
        return []
    ids = longest.ids[: window + _HEAD].astype(np.int64)
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
