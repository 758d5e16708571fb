"""The suites that are shipped: what each asks, how it is scored, and its items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pipeline.common.files import sha256_file
from pipeline.config.file import shipped
from pipeline.config.schema import SuiteName
from pipeline.evaluation.answer_checks import CuratedPrompt
from pipeline.evaluation.prompt_checks import BY_KEY


@dataclass(frozen=True)
class Suite:
    """Questions of one kind.

    Attributes:
        asks: what it is about, for the documentation.
        scored: `choice`, the likeliest of the options by its mean log-likelihood a byte; `answer`, the greedy answer by a check.
        chance: share that is right without knowing anything: one option of so many, or of a check what answers to other
            questions meet, rounded up.
        longest: tokens of a greedy answer.
    """

    name: SuiteName
    asks: str
    scored: Literal["choice", "answer"]
    chance: float
    longest: int = 0


SUITES = (
    Suite("facts", "what most people learn at school", "choice", 0.25),
    Suite("arithmetic", "sums, shares, units and short problems, the answer a number", "answer", 0.02, 32),
    Suite("common_sense", "what follows, what is for what, what one does", "choice", 0.25),
    Suite("reading", "a few sentences and a question that they answer", "choice", 0.25),
    Suite("instructions", "a form to keep to: so many words, a list, one letter", "answer", 0.04, 64),
    Suite("json", "a sentence or two as JSON of a given shape", "answer", 0.01, 96),
    Suite("refusals", "half what is to be refused, half what only sounds like it", "choice", 0.5),
    Suite("tool_calls", "which of two or three functions to call, with which arguments", "choice", 0.25),
)
BY_NAME: dict[str, Suite] = {suite.name: suite for suite in SUITES}


@dataclass(frozen=True)
class Item:
    """A question.

    Attributes:
        prompt: with what is asked of a greedy answer; nothing where options are compared.
        answer: a right one.
        others: wrong ones: the other options, or what the checks must refuse.
    """

    prompt: CuratedPrompt
    answer: str
    others: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The right one first."""
        return (self.answer, *self.others)


@cache
def items(suite: Suite) -> tuple[Item, ...]:
    """In the order of the file, which is shipped and tested: no error is expected."""
    return tuple(_item(json.loads(line)) for line in _file(suite).read_text(encoding="utf-8").splitlines())


def _item(row: dict[str, Any]) -> Item:
    checks = tuple((key, check.read(row[key])) for key, check in BY_KEY.items() if key in row)
    return Item(CuratedPrompt(row["prompt"], checks), row["answer"], tuple(row["others"]))


def _file(suite: Suite) -> Any:
    return shipped(f"suites/{suite.name}.jsonl")


def digest(suite: Suite) -> str:
    """Changes with the items."""
    return sha256_file(_file(suite))


def markdown_table(suites: Sequence[Suite] = SUITES) -> str:
    """The suites for the documentation."""
    scored = {"choice": "likeliest of the options", "answer": "form of the greedy answer"}
    rows = [
        f"| `{each.name}` | {len(items(each))} | {each.asks} | {scored[each.scored]} | {100 * each.chance:.0f} % |"
        for each in suites
    ]
    head = ["| suite | items | asks | scored by | chance |", "| --- | ---: | --- | --- | ---: |"]
    return "\n".join([*head, *rows]) + "\n"
