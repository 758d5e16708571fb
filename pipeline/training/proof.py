"""The proof at load: what a name suggests of a model's layers is asked of the layers that will train, in a few short passes.

Two questions. Do conversations that share a row compute what each computes alone? And do the fused layers compute what the
model's own do, in loss and gradient, on conversations of the run? Where the answer is no, the run goes another way and says so;
nothing is trained on a promise. A pass has a few dozen tokens, so that it needs less memory than any micro-batch; no weight,
gradient or random generator is another one after it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.planning.compute import Isolation
from pipeline.planning.plan import Plan
from pipeline.runs.events import LayersProved
from pipeline.training import attention
from pipeline.training.checkpointing import random_state
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.proof import (
    HEAD,
    LONGEST_WINDOW,
    NO_NUMBER,
    causal_of,
    fused_difference,
    last_places_off,
    window_of,
)
from pipeline.training.isolation import Batch, model_inputs
from pipeline.training.packed_rows import Document, PackedRow, collate

# Tokens of the made-up documents: each but the first has another before it, and all are longer than a convolution sees.
_LENGTHS = (9, 21, 6, 17, 11)
# Relative differences that rounding explains; in 16 bits also this many times what rounding was seen to make of this model.
_ROUNDING = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}
_SEEN_ROUNDING = 4


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
            difference, problem = fused_difference(model, fused, plan, documents)
            how: Isolation = "positions" if plan.isolation != "rows" else "rows"
            seconds = time.perf_counter() - began
            event = LayersProved(not problem, how, not problem, difference, difference, problem, seconds)
            return Proof(event, no_fused=problem)
        found = _isolation(model, plan, documents)
    seconds = time.perf_counter() - began
    event = LayersProved(not found.problem, found.how, None, found.difference, None, found.problem, seconds)
    return Proof(event, no_packing=found.problem if plan.isolation != "rows" else "")


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
    takes_positions = "position_ids" in inspect.signature(causal_of(model).forward).parameters
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
        with last_places_off(causal_of(self._model), getattr(torch, self._plan.compute_dtype)):
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


_NOT_FOR_THE_MODEL = ("labels", "weights", "real_tokens", "trained_tokens")


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far logits (tokens, vocabulary) are from others, over all tokens or over the first, whichever is more."""

    def over(tokens: slice) -> float:
        spread = wanted[tokens] - wanted[tokens].mean(-1, keepdim=True)  # what all logits share says nothing
        return float((found[tokens] - wanted[tokens]).norm() / spread.norm().clamp(min=1e-30))

    if not found.isfinite().all():
        return NO_NUMBER
    return max(over(slice(None)), over(slice(HEAD)))


def _made_up(model: Any, plan: Plan, documents: Sequence[Document]) -> list[Document]:
    """Documents of the run's own ids in an order that means nothing; one longer than the attention's window where it is short."""
    ids = np.unique(np.concatenate([each.ids for each in documents]))
    draw = np.random.default_rng(0)
    window = window_of(causal_of(model).config)
    lengths = list(_LENGTHS)
    if 0 < window <= min(LONGEST_WINDOW[plan.device], plan.row_tokens):
        lengths[1] = window + HEAD
    made = [draw.choice(ids, length).astype(np.int64) for length in lengths]
    return [Document(each, each) for each in made]
