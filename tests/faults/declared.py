"""What the suite declares: which fault, at which moments, with what outcome. `python -m tests.faults.declared` writes the table.

A test says what it proves with `@survives(…)`; the table in README.md is made of nothing else, and a test holds the committed
one to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

Part = Literal["death", "disk", "checkpoints", "training", "machine", "people", "soak"]
PARTS: dict[Part, str] = {
    "death": "A process dies",
    "disk": "The disk is full",
    "checkpoints": "A checkpoint is damaged",
    "training": "Training goes wrong",
    "machine": "The machine changes under it",
    "people": "People change things meanwhile",
    "soak": "All together",
}
FOLDER = Path(__file__).parent
TABLE = FOLDER / "README.md"
_INTRODUCTION = """\
# Faults survived

What is done to a run, at which moments, and what is found afterwards. Written by `python -m tests.faults.declared` from what the
tests in this folder declare; a test holds this file to it.

The tests run a tiny model on the CPU. *Writers* are the parts that write the run folder: they import no torch, so each of their
system calls is killed in turn (`strace`; the tests that need it are skipped where it is missing). Full disks are real ones, small
`tmpfs` mounts; where the user may not mount, those tests are skipped and the injected ones remain. `make soak` is the long form.
"""


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    part: Part
    fault: str
    moments: str
    outcome: str
    test: str


_declared: list[Fault] = []
_Test = TypeVar("_Test", bound=Callable[..., object])


def survives(part: Part, fault: str, moments: str, outcome: str) -> Callable[[_Test], _Test]:
    """Declare what a test proves."""

    def declare(test: _Test) -> _Test:
        _declared.append(Fault(part, fault, moments, outcome, f"{test.__module__.rpartition('.')[2]}.{test.__name__}"))
        return test

    return declare


def declared() -> list[Fault]:
    """Every row, by part, in the order of the files and of the tests in them."""
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith("test_") or path.stem == "soak":
            importlib.import_module(f"{__package__}.{path.stem}")
    order = list(PARTS)
    return sorted(_declared, key=lambda fault: (order.index(fault.part), fault.test.partition(".")[0]))


def table() -> str:
    """The text of README.md."""
    lines = [_INTRODUCTION]
    for part, title in PARTS.items():
        rows = [fault for fault in declared() if fault.part == part]
        if rows:
            lines += [f"## {title}\n", "| fault | moments | outcome | shown by |", "| --- | --- | --- | --- |"]
            lines += [f"| {row.fault} | {row.moments} | {row.outcome} | `{row.test}` |" for row in rows]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    # Not `declared()` of this module: run as a program it is `__main__`, and the tests register with the imported one.
    TABLE.write_text(importlib.import_module("tests.faults.declared").table(), encoding="utf-8")
