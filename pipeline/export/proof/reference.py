"""What base and adapter compute, which an export is held against: the base's own weights in 16 bits, sums in 32 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.export.package import Package
from pipeline.export.proof.proof import LEAST_TOKENS
from pipeline.system.gpu import choose_device
from pipeline.tokenization.messages import NOT_TRAINED

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel
    from pipeline.config.schema import PrecisionMode
    from pipeline.dataset.processed import ProcessedData, Split

_LONGEST = 1024  # tokens of a row: what comes after them is not scored
_MOST_TOKENS = 400
_MOST_LOOKED_AT = 400  # rows of a split


@dataclass(frozen=True)
class ScoredRow:
    """A held-out conversation.

    Attributes:
        ids: its tokens, cut behind the last that is scored.
        places: of the tokens that are scored, each after those before it.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class HeldOutRows:
    """Rows with at least `LEAST_TOKENS` tokens to score, where there are so many.

    Attributes:
        of: where they are from, for a card.
    """

    rows: tuple[ScoredRow, ...]
    of: str


def held_out_rows(data: ProcessedData) -> HeldOutRows:
    """The first rows of `test`, then of `val`; of `train` only where those are too few, which is said."""
    rows: list[ScoredRow] = []
    of: list[str] = []
    splits: tuple[tuple[Split, str], ...] = (
        ("test", "held out (test)"), ("val", "held out (val)"), ("train", "of the training rows, for want of held-out ones"),
    )  # fmt: skip
    for split, what in splits:
        found = _rows_of(data, split, _MOST_TOKENS - sum(len(row.places) for row in rows))
        rows += found
        of += [what] if found else []
        if sum(len(row.places) for row in rows) >= LEAST_TOKENS:
            break
    return HeldOutRows(tuple(rows), ", ".join(of))


def _rows_of(data: ProcessedData, split: Split, most: int) -> list[ScoredRow]:
    lengths = data.lengths(split)
    documents = data.dataset(split) if len(lengths) else ()
    rows: list[ScoredRow] = []
    for number in range(min(len(lengths), _MOST_LOOKED_AT)):
        if most <= 0:
            break
        document = documents[number]
        labels = np.asarray(document["labels"][:_LONGEST])
        places = [int(place) for place in np.flatnonzero(labels != NOT_TRAINED) if place > 0][:most]
        if places:
            rows.append(ScoredRow(tuple(int(each) for each in document["input_ids"][: places[-1] + 1]), tuple(places)))
            most -= len(places)
    return rows


def expected(package: Package, rows: Sequence[ScoredRow]) -> list[float]:
    """Log-probabilities by base and adapter of every token that is scored, row by row, in nats.

    Raises:
        OutOfMemory: the base model does not fit in 16 bits.
    """
    return list(_expected(_Asked(package), tuple(rows)))


class _Asked:
    """What the log-probabilities depend on, for the formats that are made one after the other."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._key = (package.trained.adapter_sha256(), package.base.weights_fingerprint())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key


@lru_cache(maxsize=1)
def _expected(asked: _Asked, rows: tuple[ScoredRow, ...]) -> tuple[float, ...]:
    from pipeline.modeling.adapter import load_adapter
    from pipeline.modeling.load import load_base

    package = asked.package
    device = choose_device(package.config.compute.gpu)
    model = load_base(package.base, _sixteen_bits(package.base), device, compute_dtype="float32")
    return tuple(log_probabilities(load_adapter(model, package.trained.checkpoint), rows))


def _sixteen_bits(base: BaseModel) -> PrecisionMode:
    """The mode that holds the base's weights as they are."""
    if base.kind == "folder":
        header, _ = safetensors_header(base.weight_files()[0])
        if "F16" in {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}:
            return "lora_fp16"
    return "lora_bf16"


def log_probabilities(model: Any, rows: Sequence[ScoredRow]) -> list[float]:
    """Of every token that is scored, row by row, in nats."""
    import torch

    from pipeline.modeling.evaluation_mode import evaluating

    found: list[float] = []
    device = next(model.parameters()).device
    with torch.no_grad(), evaluating(model):
        for row in rows:
            ids = torch.tensor([row.ids], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[0]
            before = torch.tensor(row.places, device=device) - 1
            chosen = logits[before].float().log_softmax(-1)
            found += chosen.gather(1, ids[0, before + 1][:, None])[:, 0].double().tolist()
    return found
