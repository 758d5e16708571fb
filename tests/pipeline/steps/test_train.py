"""The train step on data that the preprocess step made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import MissingArtifact
from pipeline.common.files import read_json
from pipeline.config.schema import Config
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Evaluated, Event, Sampled, TrainEnded, TrainStep
from pipeline.runs.folders import Workspace
from pipeline.runs.trained import require_trained
from pipeline.steps import plan, preprocess, train
from tests.conftest import chat_row, write_jsonl
from tests.waiting import PATIENCE_S


def config_for(model: Path, **sections: Any) -> Config:
    document: dict[str, Any] = {
        "project": "step", "model": {"local_path": str(model)}, "compute": {"gpu": "cpu"},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 128, "window_overlap": 16},
        "train": {"lr": 0.01, "max_steps": 4}, "eval": {"samples_per_eval": 1, "max_new_tokens": 8},
    }  # fmt: skip
    for name, values in sections.items():
        document[name] |= values
    return Config.model_validate(document)


@pytest.fixture
def ctx(workspace: Path, tiny_model: Path) -> StepContext:
    """A run whose data is prepared and whose plan is exact."""
    write_jsonl(workspace / "rows.jsonl", [chat_row(f"What is {n} and {n}?", f"It is {2 * n}, I think.") for n in range(30)])
    config, place = config_for(tiny_model), Workspace(workspace)
    run = store.create(place, config, {})
    writer = EventWriter(run)
    ctx = StepContext(config, place, run, writer.emit)
    preprocess.run(ctx)
    plan.run(ctx)
    return ctx


def test_training_leaves_an_adapter_and_a_report_that_later_steps_find(ctx: StepContext) -> None:
    told: list[Event] = []
    result = train.run(replace(ctx, emit=told.append))
    report = read_json(ctx.run.train_report)
    steps = [event for event in told if isinstance(event, TrainStep)]
    ended = next(event for event in told if isinstance(event, TrainEnded))
    assert result.outcome == "done" and f"best is step {report['best_step']}" in result.summary
    assert report["ended"] == "complete" and report["steps"] == len(steps) == ended.steps == 4
    assert report["tokens"] == sum(step.tokens for step in steps) and len(report["step_seconds"]) < len(steps)
    evaluated = [event for event in told if isinstance(event, Evaluated)]
    assert report["best_loss"] == min(event.loss for event in evaluated)
    assert [event.step for event in told if isinstance(event, Sampled)] == [event.step for event in evaluated]
    assert require_trained(ctx).checkpoint == ctx.run.path / report["best_checkpoint"]


def test_what_is_trained_is_not_trained_again_until_something_it_depends_on_changes(ctx: StepContext, tiny_model: Path) -> None:
    train.run(ctx)
    assert train.is_unchanged(ctx)
    assert train.run(ctx).outcome == "unchanged"
    more_samples = config_for(tiny_model, eval={"samples_per_eval": 3})
    assert train.is_unchanged(replace(ctx, config=more_samples))
    for section, change in (("train", {"lr": 0.02}), ("data", {"packing": False}), ("eval", {"rows_while_training": 1})):
        changed = config_for(tiny_model, **{section: change})
        assert not train.is_unchanged(replace(ctx, config=changed)), section


def test_a_best_checkpoint_that_was_damaged_is_trained_again(ctx: StepContext) -> None:
    train.run(ctx)
    (require_trained(ctx).checkpoint / "adapter_model.safetensors").write_bytes(b"")
    assert not train.is_unchanged(ctx)
    assert train.run(ctx, resume=True).outcome == "done"
    assert train.is_unchanged(ctx)


def test_without_prepared_data_the_next_command_is_told(ctx: StepContext, tiny_model: Path) -> None:
    changed = config_for(tiny_model, data={"max_seq_len": 256})
    with pytest.raises(MissingArtifact) as caught:
        train.run(replace(ctx, config=changed))
    assert caught.value.hint == "humigence preprocess"
    assert train.fingerprint(replace(ctx, config=changed)) is None


def test_asking_whether_it_is_unchanged_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, pipeline.steps.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 0
