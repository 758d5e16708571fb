"""What was found when an export was opened by the program it is for, and what of it is good enough to be packaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from pipeline.common.errors import GatesFailed
from pipeline.common.text import counted

LEAST_TOKENS = 200


class NotProved(GatesFailed):
    """An export that was opened and is not what base and adapter are: it is not packaged."""


@dataclass(frozen=True)
class Proof:
    """What is recorded in `humigence.json` and told in the cards.

    Attributes:
        program: what opened it, with its version; empty where nothing did.
        reason: why nothing did, and the command that helps; empty where something did.
        prompts: conversations whose ids were compared, and are the same.
        tokens: of answers whose log-probabilities were compared.
        of: where those tokens are from.
        mean: of the distances, nats.
        worst: of them.
        loss: mean over the tokens by the export, nats; `expected` by base and adapter.
    """

    program: str = ""
    reason: str = ""
    prompts: int = 0
    tokens: int = 0
    of: str = ""
    mean: float = 0.0
    worst: float = 0.0
    loss: float = 0.0
    expected: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def is_proved(self) -> bool:
        return bool(self.program)

    @classmethod
    def from_json(cls, document: Any) -> Proof:
        """Raises TypeError for what no version of ours wrote."""
        known = {each.name: document[each.name] for each in fields(cls) if each.name in document}
        return cls(**known | {"notes": tuple(known.get("notes") or ())})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """For a card, and the end of the step."""
        if not self.is_proved:
            return f"not proved: {self.reason}"
        return (
            f"opened by {self.program}: the same token ids in {self.prompts} prompts, the loss of {counted(self.tokens)} answer "
            f"tokens {self.loss:.4f} beside the adapter's {self.expected:.4f}, log-probabilities {self.mean:.3f} nat apart on "
            f"average and {self.worst:.2f} at most, stops where it should"
        )


def is_settled(record: dict[str, Any], program_is_there: bool) -> bool:
    """Whether there is nothing to prove of a format's record that could not be proved before."""
    try:
        return Proof.from_json(record["proof"]).is_proved or not program_is_there
    except (KeyError, TypeError):
        return False


def warning(name: str, record: dict[str, Any]) -> str:
    """That a format was not proved, and why; empty where it was."""
    proof = Proof.from_json(record["proof"])
    return "" if proof.is_proved else f"{name} is written and {proof.sentence()}"


@dataclass(frozen=True)
class Limits:
    """What an export may differ by, in nats.

    Attributes:
        mean: of the distances of the log-probabilities.
        loss: by which its loss may be higher than base and adapter's.
    """

    mean: float
    loss: float


# 16 bits and 8 round by less than different orders of summing do; a wrong weight, template or rotary embedding costs whole nats.
# With 4 and 5 bits the rounding itself is what is measured: a small model that loses more is not worth having.
_FINE, _FIVE, _FOUR = Limits(0.1, 0.05), Limits(0.3, 0.15), Limits(0.6, 0.4)
# Rows in eight bits with one scale each, and what is computed in eight bits besides.
EIGHT_BITS = Limits(0.2, 0.1)
LIMITS = {"f16": _FINE, "bf16": _FINE, "q8_0": _FINE, "q5_1": _FIVE, "q5_0": _FIVE, "q4_1": _FOUR, "q4_0": _FOUR}


def compared(found: Sequence[float], expected: Sequence[float]) -> dict[str, Any]:
    """The figures of a proof.

    Args:
        found: log-probabilities by the export, (tokens,) nats.
        expected: by base and adapter.
    """
    here, there = np.asarray(found, float), np.asarray(expected, float)
    distances = np.abs(here - there)
    return {
        "tokens": len(here), "mean": float(distances.mean()), "worst": float(distances.max()), "loss": -float(here.mean()),
        "expected": -float(there.mean()),
    }  # fmt: skip


def require(what: str, proof: Proof, limits: Limits) -> Proof:
    """The proof, or `NotProved` where it says that the export is another model."""
    if not math.isfinite(proof.loss + proof.mean):
        raise NotProved(f"{what}: it gives no finite log-probabilities", _HINT)
    if proof.mean > limits.mean or proof.loss > proof.expected + limits.loss:
        raise NotProved(
            f"{what}: its log-probabilities of {counted(proof.tokens)} answer tokens are {proof.mean:.3f} nat from base and "
            f"adapter's on average ({limits.mean:g} is allowed), its loss is {proof.loss:.4f} and theirs {proof.expected:.4f} "
            f"(+{limits.loss:g} is allowed)",
            _HINT,
        )
    return proof


_HINT = "it is not packaged; the adapter and the other formats are. A format of more bits loses less"
