"""Step 5, train: the adapter of the run, by the run's plan. Whether training was asked for, the runner has decided."""

from __future__ import annotations

from typing import Any

from pipeline.base_model import same_base
from pipeline.base_model.locate import locate, require_base_model
from pipeline.common.errors import MissingArtifact
from pipeline.common.files import fingerprint as fingerprint_of
from pipeline.common.files import write_json
from pipeline.config.affects import in_order, settings_of
from pipeline.dataset import processed
from pipeline.planning.plan import Plan, read_plan
from pipeline.runs.checkpoint_folders import damage
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.progress import Phases
from pipeline.runs.store import read_report

# Raised when the same config, model and data would train another adapter.
_FORMAT_VERSION = 1
_FIRST_SETTINGS = ("train", "seed", "data.max_seq_len", "data.packing", "eval.rows_while_training")


def run(ctx: StepContext, resume: bool = False) -> StepResult:
    """Train, and write `train_report.json`; nothing is done when it stands already.

    Args:
        resume: go on from the newest whole checkpoint of the run.

    Raises:
        MissingArtifact: the base model, the prepared data or the plan is not there.
        BadInput, EnvironmentFault, Diverged, Stopped: see `pipeline.training.train.train`.
    """
    assert ctx.run is not None
    if is_unchanged(ctx):
        return StepResult("unchanged", _summary(read_report(ctx.run.train_report)))
    base = require_base_model(ctx.config, ctx.workspace)
    data = processed.find_processed(ctx.config, ctx.workspace)
    if data is None:
        raise MissingArtifact("the data is not prepared, or its settings have changed since", "humigence preprocess")
    plan = _plan(ctx)
    if resume:
        same_base.require_same(ctx.run, base)
    else:
        same_base.note(ctx.run, base)
    Phases(ctx.emit, "train").say("importing libraries")
    from pipeline.modeling.import_bitsandbytes import import_bitsandbytes

    import_bitsandbytes()  # before the trainer is imported
    from pipeline.training.train import train

    report = {"fingerprint": fingerprint(ctx)} | train(ctx, base, data, plan, resume)
    write_json(ctx.run.train_report, report)
    return StepResult("done", _summary(report))


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the run was trained to its end from today's config, model and data, and its best checkpoint is whole."""
    report = read_report(ctx.run.train_report) if ctx.run else None
    if ctx.run is None or report is None or report["fingerprint"] != fingerprint(ctx):
        return False
    return damage(ctx.run.path / report["best_checkpoint"]) is None


def fingerprint(ctx: StepContext) -> str | None:
    """Changes with anything the adapter depends on; None while the model or the prepared data is missing.

    Samples and acceptance thresholds don't change a curve. How many held-out rows are looked at does: it decides which
    checkpoint is the best and when to stop.
    """
    base, data = locate(ctx.config, ctx.workspace), processed.find_processed(ctx.config, ctx.workspace)
    if base is None or data is None:
        return None
    settings = in_order(settings_of(ctx.config, "adapter"), *_FIRST_SETTINGS)
    # Rows that an older version prepared without their weights, and this one with them, are not the same.
    weighted = ["loss weights"] if data.loss_weights("train") else []
    return fingerprint_of(_FORMAT_VERSION, *settings, base.weights_fingerprint(), data.fingerprint, *weighted)


def _plan(ctx: StepContext) -> Plan:
    assert ctx.run is not None
    try:
        return read_plan(ctx.run.plan)
    except FileNotFoundError:
        raise MissingArtifact(f"{ctx.run.plan} is not there: the run has no plan", "humigence pipeline --train") from None


def _summary(report: Any) -> str:
    ended = "" if report["ended"] == "complete" else ", stopped early"
    loss = "" if report["best_loss"] is None else f", held-out loss {report['best_loss']:.4f}"
    return f"{report['steps']:,} steps{ended}; best is step {report['best_step']:,}{loss}"
