"""The gates step over the reports of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.common.errors import MissingArtifact
from pipeline.common.files import read_json, write_json
from pipeline.config.schema import Config
from pipeline.evaluation.evidence import evidence_of
from pipeline.evaluation.jitter_gate import spread_over_median
from pipeline.runs import store
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, GateJudged, Note
from pipeline.runs.folders import Workspace
from pipeline.steps import gates
from tests.pipeline.evaluation import made_up
from tests.pipeline.steps.judged import log_steps


def evaluated(
    root: Path, *, steps: int = 25, counted: int = 22, val: bool = True, bad: int = 0
) -> tuple[StepContext, list[Event]]:
    config = Config()
    run = store.create(Workspace(root), config, {})
    generator = np.random.default_rng(2)
    base, tokens = generator.uniform(150, 250, 60), np.full(60, 100)
    figures = made_up.figures(base, base * generator.uniform(0.9, 0.98, 60), tokens)
    answers: list[dict[str, Any]] = [
        {"prompt": "p", "base": "b", "tuned": "t", "base_reasons": [], "tuned_reasons": ["it is empty"] if i < bad else []}
        for i in range(10)
    ]
    write_json(run.eval_report, {"fingerprint": "1", "val": figures if val else None, "test": None, "curated": answers})
    log_steps(run, steps, counted=counted)
    events: list[Event] = []
    return StepContext(config, Workspace(root), run, events.append), events


def verdicts(ctx: StepContext) -> dict[str, str]:
    assert ctx.run is not None
    return {gate["gate"]: gate["verdict"] for gate in read_json(ctx.run.acceptance_report)["gates"]}


def test_every_gate_is_told_and_reported(workspace: Path) -> None:
    ctx, events = evaluated(workspace)
    result = gates.run(ctx)
    assert result.passed and result.summary == "3 passed"
    assert verdicts(ctx) == {"held-out loss": "passed", "throughput jitter": "passed", "curated answers": "passed"}
    assert [event.gate for event in events if isinstance(event, GateJudged)] == list(verdicts(ctx))


def test_one_failed_gate_fails_the_step(workspace: Path) -> None:
    ctx, _ = evaluated(workspace, bad=4)
    assert ctx.run is not None
    assert not gates.run(ctx).passed
    assert read_json(ctx.run.acceptance_report)["passed"] is False
    assert verdicts(ctx)["curated answers"] == "failed"


def test_steps_that_compile_are_no_evidence(workspace: Path) -> None:
    ctx, _ = evaluated(workspace, steps=25, counted=19)
    gates.run(ctx)
    assert verdicts(ctx)["throughput jitter"] == "not judged"


def test_steps_of_different_sizes_at_one_speed_are_no_jitter(workspace: Path) -> None:
    ctx, _ = evaluated(workspace)
    assert ctx.run is not None
    evidence = evidence_of(ctx.run)
    assert evidence is not None
    assert spread_over_median(evidence.seconds, evidence.tokens) == pytest.approx(0, abs=1e-9)


def test_nothing_judged_is_said_and_is_no_pass_of_a_gate(workspace: Path) -> None:
    ctx, events = evaluated(workspace, steps=3, counted=3, val=False)
    assert ctx.run is not None
    write_json(ctx.run.eval_report, {"fingerprint": "1", "val": None, "test": None, "curated": []})
    result = gates.run(ctx)
    assert result.summary == "3 not judged"
    assert any(isinstance(event, Note) for event in events)
    assert set(verdicts(ctx).values()) == {"not judged"}


def test_changed_thresholds_judge_the_same_run_again(workspace: Path) -> None:
    ctx, _ = evaluated(workspace)
    gates.run(ctx)
    assert gates.is_unchanged(ctx)
    assert gates.run(ctx).outcome == "unchanged"
    stricter = ctx.config.acceptance.model_copy(update={"min_val_improvement_pct": 50.0})
    changed = StepContext(ctx.config.model_copy(update={"acceptance": stricter}), ctx.workspace, ctx.run)
    assert not gates.is_unchanged(changed)
    result = gates.run(changed)
    assert (result.outcome, result.passed) == ("done", False)
    assert verdicts(changed)["held-out loss"] == "failed"
    assert not gates.is_unchanged(ctx)


def test_a_run_that_was_not_evaluated_is_not_judged(workspace: Path) -> None:
    run = store.create(Workspace(workspace), Config(), {})
    with pytest.raises(MissingArtifact) as caught:
        gates.run(StepContext(Config(), Workspace(workspace), run))
    assert caught.value.hint == "humigence eval"
