"""Running a command of the command line in this process, and what has to hold whatever it was given."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli.main import main
from tests.hostile_text import control_characters

HERE = Path(__file__).parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Told:
    """What a command printed and its exit code."""

    code: int
    text: str

    def says(self, *fragments: str) -> bool:
        return all(any(each in self.text for each in fragment.split("|")) for fragment in fragments)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Told:
    """Run it. No traceback, no bug, no control character, whatever the arguments name."""
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and "bug" not in err, err
    assert not control_characters(out + err)
    return Told(code, out + err)


def write_config(root: Path, model: Path | str, raw_path: str, **data: Any) -> None:
    """`c.json`, for the CPU."""
    document = {"model": {"local_path": str(model)}, "compute": {"gpu": "cpu"}, "data": {"raw_path": raw_path, **data}}
    (root / "c.json").write_text(json.dumps(document), encoding="utf-8")


def half_written(root: Path) -> list[str]:
    """Files and folders that are neither whole nor somebody else's: temporary names, prepared data without its report."""
    return list(_half_written(root))


def _half_written(root: Path) -> Iterator[str]:
    for _parent, folders, files in os.walk(root):
        yield from (name for name in [*folders, *files] if name.endswith((".tmp", ".old")))
    for folder in (root / "data" / "processed").glob("*"):
        if not (folder / "report.json").is_file():
            yield folder.name
