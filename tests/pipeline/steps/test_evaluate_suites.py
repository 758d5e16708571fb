"""The suites in the evaluate step: measured where they are asked for, kept while they answer, told and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import MissingArtifact, Stopped
from pipeline.common.files import read_json, write_json
from pipeline.config.schema import Config
from pipeline.evaluation import gates as acceptance
from pipeline.evaluation.suites import lm_eval, registry, reported
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event, HeldOut, StepProgress, SuiteMeasured
from pipeline.steps import evaluate, gates
from pipeline.system.gpu import Device
from tests.pipeline.steps.judged import config_for, save_checkpoint, trained_run


@pytest.fixture(autouse=True)
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty items of each suite: the step is tested here, not the suites."""
    whole = registry.items
    monkeypatch.setattr(registry, "items", lambda suite: whole(suite)[:30])


def asking(ctx: StepContext, suites: Any, told: list[Event], **settings: Any) -> StepContext:
    section = {**ctx.config.eval.model_dump(), "suites": suites, **settings}
    config = Config.model_validate({**ctx.config.model_dump(by_alias=True), "eval": section})
    return replace(ctx, config=config, emit=told.append)


def measured(events: list[Event]) -> list[str]:
    return [event.suite for event in events if isinstance(event, SuiteMeasured)]


def test_an_evaluation_on_a_cpu_measures_no_suite_and_on_a_gpu_all(
    workspace: Path, ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reported.wanted(ctx) == ()
    gpu = Device("cuda", "a GPU", uuid="GPU-0000")
    monkeypatch.setattr(reported, "choose_device", lambda _: gpu)
    assert reported.wanted(ctx) == tuple(registry.BY_NAME)
    assert reported.named(ctx.config) == (), "a finished run is not unfinished for a GPU that has come"


def test_suites_are_added_to_a_finished_run_and_nothing_else_is_measured_again(workspace: Path, ctx: StepContext) -> None:
    assert ctx.run is not None
    before, told = read_json(ctx.run.eval_report), list[Event]()
    assert not before.get("suites")
    asked = asking(ctx, ["facts", "arithmetic"], told)
    assert evaluate.is_unchanged(ctx) and not evaluate.is_unchanged(asked)
    assert evaluate.run(asked).outcome == "done"
    assert measured(told) == ["facts", "arithmetic"] and sum(isinstance(event, HeldOut) for event in told) == 2
    progress = [(each.what, each.done, each.total) for each in told if isinstance(each, StepProgress) and each.unit]
    assert ("suite facts", 0, 30) in progress and ("suite arithmetic", 30, 30) in progress
    assert {what for what, *_ in progress} <= {"suite facts", "suite arithmetic", "reading weights"}, "neither rows nor prompts"
    report = read_json(ctx.run.eval_report)
    assert {name: report[name] for name in before if name not in ("verdict", "suites")} == {
        name: before[name] for name in before if name not in ("verdict", "suites")
    }
    assert report["verdict"].startswith(before["verdict"] + "; ") and next(iter(report)) == "verdict"
    # Again: everything is there. Another suite: only that one.
    told.clear()
    assert evaluate.run(asked).outcome == "unchanged" and measured(told) == ["facts", "arithmetic"]
    told.clear()
    evaluate.run(asking(ctx, ["reading"], told))
    assert [row["suite"] for row in read_json(ctx.run.eval_report)["suites"]] == ["facts", "arithmetic", "reading"]
    assert {each.what for each in told if isinstance(each, StepProgress) and each.unit == "items"} == {"suite reading"}


def test_another_adapter_leaves_no_suite_standing(workspace: Path, ctx: StepContext) -> None:
    assert ctx.run is not None
    asked = asking(ctx, ["facts"], told := [])
    evaluate.run(asked)
    save_checkpoint(ctx.run.checkpoints / "step-000020", ctx, scale=1.0)
    assert not evaluate.is_unchanged(asked)
    evaluate.run(ctx)
    assert read_json(ctx.run.eval_report)["suites"] == [], "one that was not asked for is not told of another adapter"
    told.clear()
    evaluate.run(asked)
    assert measured(told) == ["facts"]


def test_a_person_stops_between_batches_and_what_was_measured_stays(workspace: Path, ctx: StepContext) -> None:
    assert ctx.run is not None
    asked, told = asking(ctx, ["facts", "reading"], []), list[Event]()
    until = lambda: "save" if "facts" in measured(told) else None  # noqa: E731
    with pytest.raises(Stopped) as stopped:
        evaluate.run(replace(asked, emit=told.append, stop=until))
    assert "suites that are left" in stopped.value.hint
    assert [row["suite"] for row in read_json(ctx.run.eval_report)["suites"]] == ["facts"]
    told.clear()
    evaluate.run(replace(asked, emit=told.append))
    assert {each.what for each in told if isinstance(each, StepProgress) and each.unit == "items"} == {"suite reading"}


def test_an_adapter_of_zeros_loses_nothing_is_no_difference_and_does_not_ship(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model, acceptance={"least_rows": 2, "least_tokens": 1}))
    assert ctx.run is not None
    save_checkpoint(ctx.run.checkpoints / "step-000020", ctx, scale=0.0)
    told: list[Event] = []
    asked = asking(ctx, ["facts", "arithmetic"], told)
    evaluate.run(asked)
    suites = [event for event in told if isinstance(event, SuiteMeasured)]
    assert all((each.won, each.lost, each.base) == (0, 0, each.tuned) and each.verdict != "fell" for each in suites)
    judged = gates.run(asked).gates
    assert judged[0].explanation.startswith("no difference") and judged[0].verdict == "failed"
    assert not acceptance.ships(judged)
    assert read_json(ctx.run.eval_report)["verdict"].startswith("no difference on 4 test rows, no answer of 2 better or worse; ")


def fallen(ctx: StepContext) -> None:
    """The report, with a suite that fell."""
    assert ctx.run is not None
    row = {"suite": "arithmetic", "items": 100, "base": 0.62, "tuned": 0.41, "won": 3, "lost": 24, "p_value": 5e-5,
           "verdict": "fell", "chance": 0.02, "measure": "", "lost_items": [], "fingerprint": "x", "of_later": 1}  # fmt: skip
    write_json(ctx.run.eval_report, {**read_json(ctx.run.eval_report), "suites": [row]})


@pytest.mark.parametrize(("setting", "verdict"), [("warning", "warning"), ("gate", "failed")])
def test_a_suite_that_fell_is_a_warning_and_a_gate_where_that_is_asked_for(
    workspace: Path, ctx: StepContext, setting: str, verdict: str
) -> None:
    assert ctx.run is not None
    before = gates.run(ctx)
    assert "forgetting" not in [gate.gate for gate in before.gates], "nobody asked"
    fallen(ctx)
    acceptance_ = ctx.config.acceptance.model_copy(update={"forgetting": setting})
    result = gates.run(replace(ctx, config=ctx.config.model_copy(update={"acceptance": acceptance_})))
    gate = result.gates[-1]
    assert (gate.gate, gate.verdict, gate.value, gate.threshold) == ("forgetting", verdict, 1.0, 0)
    assert "arithmetic fell from 62.0 % to 41.0 % (24 lost, 3 won, p < 0.001)" in gate.explanation and gate.next_action
    assert result.passed is (before.passed and setting == "warning")


def test_a_suite_of_lm_eval_that_is_not_installed_says_what_to_install_before_a_model_is_loaded(
    workspace: Path, ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval, "installed", lambda: None)
    monkeypatch.setattr(evaluate, "_load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(MissingArtifact) as missing:
        evaluate.run(asking(ctx, ["lm-eval:arc_easy"], []))
    assert 'pip install "humigence[lm-eval]"' in missing.value.hint
