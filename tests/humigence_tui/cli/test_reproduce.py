"""A run's adapter once more: the same to the bit on the same machine, and told where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.report.recipe import read_recipe
from tests.humigence_tui.cli.test_pipeline import command
from tests.humigence_tui.cli.test_pipeline import project as project
from tests.processes import humigence


@pytest.mark.slow
def test_the_adapter_comes_out_the_same_by_the_folder_alone(project: Path) -> None:
    trained = command(project, "train", "--train")
    assert trained.returncode == 0, trained.stderr
    written = humigence("reproduce", "--output", "again", cwd=project)
    assert written.returncode == 0, written.stderr
    folder = project / "again"
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "constraints.txt", "recipe.json"}
    assert "torch==" in (folder / "constraints.txt").read_text() and "+cpu" not in (folder / "constraints.txt").read_text()
    moved = project.parent / "elsewhere"
    folder.rename(moved)
    done = humigence("reproduce", "--run", str(moved), cwd=project.parent)
    assert done.returncode == 0 and "the same adapter as run tiny/" in done.stdout, done.stdout + done.stderr
    assert "trained before" not in done.stderr
    recipe = json.loads((moved / "recipe.json").read_text())
    (moved / "recipe.json").write_text(json.dumps(recipe | {"adapter_sha256": "0" * 64, "data": {"raw_sha256": "1"}}))
    other = humigence("reproduce", "--run", str(moved), cwd=project.parent)
    assert other.returncode == 3 and "another adapter than run" in other.stdout and "the rows are others" in other.stderr
    assert "trained before" in other.stderr
    assert humigence("reproduce", "--output", str(moved), cwd=project).returncode == 2, "it is there already"


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"a": 1}')
    with pytest.raises(BadInput, match="holds no recipe"):
        read_recipe(tmp_path)
