"""Somebody puts another base model under the name of the one a run trains: never gone on with, measured or packed in silence."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs.chat import Chat
from tests import tiny
from tests.faults.declared import survives
from tests.faults.workers import Project, Workers, when
from tests.processes import humigence

_WORDS = "is not the base model that run"


@pytest.fixture
def own_model(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the base model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "models" / "base"))


@pytest.fixture
def project(tmp_path: Path, own_model: Path, workers: Workers) -> Any:
    yield Project(tmp_path / "work", own_model, workers)
    Workers.end_all()


def _other_weights(model: Path) -> None:
    """The weights of another training in a file of the same size, the time of its change as before."""
    file = model / "model.safetensors"
    status = file.stat()
    tiny.save_model(model.with_name("other"), seed=1)
    shutil.copyfile(model.with_name("other") / file.name, file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size


def _other_template(model: Path) -> None:
    """Another chat template: the same rows become other tokens."""
    (model / "chat_template.jinja").write_text(tiny.ZEPHYR.replace("<|user|>", "<|human|>"))


@survives(
    "people",
    "the base model becomes another one under the same path: other weights of the same size and date, another chat template",
    "before a resume",
    "refused (exit 2) with what differs; no step is trained; put back, it ends as an untroubled one",
)
@pytest.mark.parametrize(("change", "what"), [(_other_weights, "its weights"), (_other_template, "its tokenizer")])
def test_a_run_never_goes_on_with_another_base_model(
    project: Project, own_model: Path, untroubled: dict[str, Any], change: Callable[[Path], None], what: str
) -> None:
    project.to_its_end(when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM})
    good = Path(shutil.copytree(own_model, own_model.with_name("good")))
    change(own_model)
    assert project.to_its_end(resume=True) == 2
    error, step = project.state.error, project.state.step
    assert error is not None and _WORDS in error.message and f"{what} changed" in error.message
    assert step == 8 and "put back what was at" in error.hint
    assert project.state.steps["model"].outcome == "failed", "before any row is prepared again"
    shutil.rmtree(own_model)
    good.rename(own_model)
    assert project.to_its_end(resume=True) in (0, 3)
    assert project.left_behind() == untroubled


@survives(
    "people",
    "the same",
    "right before training goes on, evaluation and packing; before `humigence eval`, `pack` and `infer`",
    "refused (exit 2), `infer` warns: no step, figure or package is made with weights the adapter was not begun on",
)
def test_an_adapter_is_neither_measured_nor_packed_with_another_base_model(project: Project, own_model: Path) -> None:
    project.config = project.config.model_copy(update={"train": project.config.train.model_copy(update={"max_steps": 8})})
    good = Path(shutil.copytree(own_model, own_model.with_name("good")))
    project.to_its_end(when("train_step", step=4) | {"do": "signal", "signal": signal.SIGTERM})
    for step in ("train", "evaluate", "pack"):
        project.start(when("step_started", step=step) | {"do": "signal", "signal": signal.SIGSTOP}, resume=True)
        project.workers.see_it_stop()
        _other_weights(own_model)
        project.workers.go_on()
        assert project.workers.exit_status() == 2
        assert _WORDS in project.state.error.message and project.state.steps[step].outcome == "failed"
        assert project.run.eval_report.exists() == (step == "pack")
        shutil.copytree(good, own_model, dirs_exist_ok=True)
    assert not list((project.root / "artifacts").glob("*"))
    assert project.to_its_end(resume=True) in (0, 3)
    _other_weights(own_model)
    (project.root / "mine.json").write_text(json.dumps(project.config.to_json()))
    for command in ("eval", "pack"):
        done = humigence(command, "--config", "mine.json", cwd=project.root)
        assert done.returncode == 2 and _WORDS in done.stderr, done.stderr
    told = humigence("infer", "--prompt", "Hello", "--max-new-tokens", "1", "--config", "mine.json", cwd=project.root)
    assert told.returncode == 0 and "is not the base model this adapter was trained on" in told.stderr


@survives(
    "people",
    "the libraries that prepare rows are upgraded",
    "before a resume",
    "the run goes on with the rows as they were prepared; it ends as an untroubled one",
)
def test_a_run_goes_on_with_the_rows_it_began_with_after_an_upgrade(project: Project, untroubled: dict[str, Any]) -> None:
    project.to_its_end(when("train_step", step=7) | {"do": "signal", "signal": signal.SIGTERM})
    assert project.to_its_end({"version": "99.0"}, resume=True) in (0, 3)
    assert project.state.steps["preprocess"].outcome == "unchanged"
    assert len(list((project.root / "data" / "processed").iterdir())) == 1
    assert project.left_behind() == untroubled


class _Asked(Exception):
    """Ends a chat's loading once it has told what it loads."""


class _Request:
    def report(self, _kind: str, **values: Any) -> None:
        raise _Asked(values["warning"])


@survives(
    "people",
    "the same",
    "before a chat with a run that is not packaged",
    "the chat says that the weights are others",
)
def test_a_chat_with_a_run_says_that_its_base_model_is_another(project: Project, own_model: Path) -> None:
    project.config = project.config.model_copy(update={"train": project.config.train.model_copy(update={"max_steps": 2})})
    assert project.to_its_end(until="train") == 0
    for words in ("^$", "is not the base model this adapter was trained on: its weights"):
        with pytest.raises(_Asked, match=words):
            Chat().load(_Request(), str(project.root), run=str(project.run.path))  # type: ignore[arg-type]
        _other_weights(own_model)
