"""What was found of each family, as JSON that the documentation reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
Column = Literal["labels", "isolation", "fused", "decode", "adapter", "merged", "memory"]
# Column -> its title in the table, and what a mark in it says.
COLUMNS: dict[Column, tuple[str, str]] = {
    "labels": ("labels", "trained are the answers and what ends them, and nothing else"),
    "isolation": ("isolation", "several conversations share a row and compute what each computes alone"),
    "fused": ("fused = own", "the fused layers train it, and compute the loss and gradient of the model's own"),
    "decode": ("decode = generate", "answers, also several at once, are those of transformers' `generate`"),
    "adapter": ("plain peft", "peft and transformers alone load the adapter, and compute the logits that were trained"),
    "merged": ("merged", "transformers alone loads the merged model, and computes the logits of base and adapter"),
    "memory": ("memory", "the plan's peak is within 5 % of what a training step takes"),
}
Verdict = Literal["yes", "no", "failed"]


@dataclass(frozen=True)
class Cell:
    """A family and a column.

    Attributes:
        verdict: "no" is by intent: a person reads `why`. "failed" is a fault that nobody meant.
        at: the step in which a person reads it; empty where nothing was refused.
    """

    verdict: Verdict
    why: str = ""
    at: str = ""


Row = dict[Column, Cell]


@dataclass(frozen=True)
class Results:
    """All families on one kind of device.

    Attributes:
        date: the day they were tried, as `2026-11-28`.
        device: its name.
        versions: of the libraries.
        note: how, where not all was tried in one go; a cell that is not there was not tried.
    """

    date: str
    device: str
    versions: dict[str, str]
    families: dict[str, Row]
    note: str = ""

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_results(path: Path) -> Results | None:
    """None where nothing was tried yet."""
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    families = {name: {column: Cell(**cell) for column, cell in row.items()} for name, row in document.pop("families").items()}
    return Results(**document, families=families)
