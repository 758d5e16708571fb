"""A run that was trained and evaluated, for the steps after that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.runs.context import StepContext
from pipeline.steps import evaluate
from tests import tiny
from tests.pipeline.steps.judged import config_for, trained_run


@pytest.fixture(scope="package")
def evaluated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an evaluated run and its base model. Read only: tests copy it."""
    root = tmp_path_factory.mktemp("evaluated")
    tiny.save_model(root / "base", template=tiny.CHATML, llama=False)
    ctx, _ = trained_run(root, config_for(Path("base")))
    evaluate.run(ctx)
    return root


@pytest.fixture
def ctx(evaluated_run: Path, workspace: Path) -> StepContext:
    from pipeline.runs import store
    from pipeline.runs.folders import Workspace

    shutil.copytree(evaluated_run, workspace, dirs_exist_ok=True)
    run = store.find_run(Workspace(workspace))
    return StepContext(run.load_config(), Workspace(workspace), run)
