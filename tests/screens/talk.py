"""A raw file with good and bad rows, and a packaged tiny model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.app import HumigenceApp
from pipeline.config.schema import Config
from pipeline.runs.folders import Workspace
from pipeline.steps import evaluate, gates, pack
from tests import tiny
from tests.conftest import chat_row, write_jsonl
from tests.pipeline.steps.judged import config_for, trained_run

GOOD = 30
ROWS: list[dict[str, Any]] = [
    *(chat_row(f"Where is parcel {i}?", "I am sorry.", "And now?", f"Look at notice {i}.") for i in range(GOOD)),
    chat_row("nobody answers"),  # 31
    chat_row("Where is parcel 0?", "I am sorry.", "And now?", "Look at notice 0."),  # 32
    chat_row("too long", "word " * 400),  # 33
]


class Stage(HumigenceApp):
    """The app without its threads."""

    def __init__(self, root: Path, first: str, **arguments: Any) -> None:
        super().__init__(Workspace(root), first, arguments)

    def _start_threads(self) -> None:
        pass


def settings(model: Path | str) -> Config:
    data = {"source": "local", "raw_path": "rows.jsonl", "max_seq_len": 256, "over_long": "drop"}
    return Config.model_validate({"model": {"local_path": str(model)}, "compute": {"gpu": "cpu"}, "data": data})


@pytest.fixture
def rows(workspace: Path) -> Path:
    """A workspace whose `rows.jsonl` has 30 good rows, one without an answer, one twice, one too long, one not JSON."""
    path = write_jsonl(workspace / "rows.jsonl", ROWS)
    with path.open("a") as file:
        file.write("\n{not json\n")  # a blank line is no row: this is row 34 on line 35
    return workspace


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a trained, judged and packaged tiny model. Read only."""
    root = tmp_path_factory.mktemp("packaged")
    before = Path.cwd()
    os.chdir(root)
    try:
        tiny.save_model(root / "base", template=tiny.CHATML, llama=False)
        ctx, _ = trained_run(root, config_for(Path("base"), data={"source": "local"}))
        for step in (evaluate, gates, pack):
            step.run(ctx)  # type: ignore[attr-defined]
    finally:
        os.chdir(before)
    return root
