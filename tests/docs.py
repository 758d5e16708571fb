"""The generated parts of README.md and docs/: `python -m tests.docs` (`make docs`) writes them, a test holds the files to them.

A part stands between `<!-- NAME -->` and `<!-- end of NAME -->`. To add one: a row in `PARTS` and the two marks in its file.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from humigence_tui.cli import config
from pipeline.dataset.schemas import registry as schemas
from pipeline.evaluation import prompt_checks
from pipeline.evaluation.suites import registry as suites
from pipeline.troubleshooting import catalogue
from tests import controls
from tests.benchmarks import performance
from tests.models import table
from tests.pipeline.export import table as exports
from tests.processes import ROOT


class Part(NamedTuple):
    """A generated part of a file: `text` makes what stands between the two marks."""

    file: str
    name: str
    text: Callable[[], str]


def layout() -> str:
    """The rooms by floor, as pyproject.toml's contract has them, and what each is for by its own docstring."""
    floors = _floors()
    numbered = list(zip(range(len(floors), 0, -1), floors, strict=True))
    picture = [
        f"humigence_tui/     {'  '.join(_rooms_of('humigence_tui'))}",
        f"    screens/       {'  '.join(_rooms_of('screens'))}",
        "        pipeline/",
        *(f"          {number:>2}       {'  '.join(rooms)}" for number, rooms in numbered),
    ]
    rooms = [f"pipeline/{room}" for floor in floors for room in floor]
    table = [
        f"| `{each}/` | {_purpose(ROOT / each / '__init__.py')} |"
        for top in ("humigence_tui", "screens", *rooms)
        for each in (top, *(f"{top}/{room}" for room in _rooms_of(top)))
    ]
    return "\n".join(["```text", *picture, "```", "", "| room | what it is for |", "| --- | --- |", *table]) + "\n"


def _floors() -> list[list[str]]:
    """The rooms of `pipeline`, the highest floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["id"] == "rooms")["layers"]
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def _rooms_of(folder: str) -> list[str]:
    return sorted(found.parent.name for found in (ROOT / folder).glob("*/__init__.py"))


def _purpose(face: Path) -> str:
    said = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split())


PARTS = (
    Part("README.md", "speed", performance.sentence),
    Part("docs/data.md", "schemas", schemas.markdown_table),
    Part("docs/settings.md", "settings", config.markdown_table),
    Part("docs/verdict.md", "checks", prompt_checks.markdown_table),
    Part("docs/verdict.md", "suites", suites.markdown_table),
    Part("docs/troubleshooting.md", "troubles", catalogue.markdown_table),
    Part("docs/performance.md", "performance", performance.table),
    Part("docs/architecture.md", "layout", layout),
    Part("docs/ui.md", "controls", controls.settings_table),
    Part("docs/ui.md", "keys", controls.keys_table),
    Part("docs/models.md", "models", table.models_table),
    Part("docs/models.md", "families", table.families_table),
    Part("docs/exports.md", "formats", exports.formats_table),
    Part("docs/exports.md", "exported", exports.families_table),
)


def marked(part: Part) -> tuple[str, str, str]:
    """The part's file in three: up to and with the first mark, what stands between the marks, the rest.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, after = (ROOT / part.file).read_text(encoding="utf-8").partition(f"<!-- {part.name} -->\n")
    between, end, rest = after.partition(f"<!-- end of {part.name} -->")
    if not (begin and end):
        raise ValueError(f"{part.file} has no place for {part.name}")
    return before + begin, between, end + rest


def main() -> None:
    for part in PARTS:
        before, _, after = marked(part)
        (ROOT / part.file).write_text(before + part.text() + after, encoding="utf-8")
        print(f"{part.file}: {part.name}")
    faults = importlib.import_module("tests.faults.declared")
    faults.TABLE.write_text(faults.table(), encoding="utf-8")
    print(faults.TABLE.relative_to(ROOT))


if __name__ == "__main__":
    main()
