"""Step 2, plan: batch arithmetic, memory and time. Needs no GPU and no download, and loads nothing heavy unless a model's layers
have to be asked what they save.

Made twice: from an estimate of the data first, exactly once the rows are prepared.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.base_model.families import family_of
from pipeline.base_model.locate import locate
from pipeline.base_model.precision import require_precision
from pipeline.base_model.shape import ModelShape, checked_shape
from pipeline.common.errors import MissingArtifact, first_line
from pipeline.dataset import source
from pipeline.dataset.hub import rows as hub_rows
from pipeline.planning.compute import layers_run_as
from pipeline.planning.plan import banner, read_plan, write_plan
from pipeline.planning.planner import PLAN_FILE, exact_figures, known_shape, model_config, plan_for, plan_inputs
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note
from pipeline.steps.validate import require_sound
from pipeline.system.gpu import Device, choose_device


def run(ctx: StepContext) -> StepResult:
    """Make the plan, write it, emit it.

    Raises:
        MissingArtifact: the model's sizes, or the rows, are not known before they are downloaded (only when the step runs by
            itself; in a run the plan is then made after preprocess).
        BadInput: what `validate` refuses of the config (only when the step runs by itself).
        EnvironmentFault: the device is not there, can't do the precision mode, or has no memory for the training.
    """
    if ctx.run is None:  # in a run the first step has refused it
        require_sound(ctx)
    shape = known_shape(ctx.config, ctx.workspace)
    if shape is None or not source.is_here(ctx.config):
        return _later(ctx, shape)
    device = choose_device(ctx.config.compute.gpu)
    require_precision(ctx.config.train.precision_mode, device)
    shape = _with_footprint(ctx, shape, device)
    plan = plan_for(ctx.config, ctx.workspace, shape, device)
    write_plan(ctx.workspace.project(ctx.config.project) / PLAN_FILE, plan)
    if ctx.run:
        write_plan(ctx.run.plan, plan)
    ctx.emit(Note(banner(plan, shape, device)))
    ctx.emit(plan.event())
    steps = f"{plan.total_steps:,} step{'' if plan.total_steps == 1 else 's'}"
    return StepResult("done", f"{'' if plan.exact else '≈ '}{steps} of {plan.tokens_per_step:,} tokens")


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the run's plan is exact and was made from what is here today. Free memory may differ: what was decided stays."""
    if ctx.run is None or not ctx.run.plan.is_file():
        return False
    plan = read_plan(ctx.run.plan)
    shape = known_shape(ctx.config, ctx.workspace)
    figures = exact_figures(ctx.config, ctx.workspace)
    return plan.exact and shape is not None and figures is not None and plan.inputs == plan_inputs(ctx.config, shape, figures)


def _with_footprint(ctx: StepContext, shape: ModelShape, device: Device) -> ModelShape:
    """With what the model's layers save for their backward pass, asked of its own class where no formula is proved for its
    family: seconds, once for each model."""
    document = model_config(ctx.config, ctx.workspace)
    how = layers_run_as(ctx.config, shape, device)
    if document is None or family_of(shape.model_type).norms is not None or shape.footprint(*how):
        return shape
    if base := locate(ctx.config, ctx.workspace):
        checked_shape(base)  # the model is made as its config says
    from pipeline.modeling import measure_footprint

    kind, dtype, attention = how
    try:
        found = measure_footprint.footprint_of(document, device=kind, compute_dtype=dtype, attention=attention)
    except measure_footprint.FAILURES as error:
        why = f"the layers of this model can't be asked what they save ({first_line(error)})"
        ctx.emit(Note(f"the plan's memory is an estimate: {why}"))
        return shape
    return replace(shape, footprints=found)


def _later(ctx: StepContext, shape: ModelShape | None) -> StepResult:
    if shape is None:
        name, command = ctx.config.model.local_path or ctx.config.model.repo, "humigence model download"
        reason = f"the sizes of {name} are not known before it is here"
    else:
        reason, command = f"how many rows {source.name_of(ctx.config)} has is not known before it is here", hub_rows.DOWNLOAD
    if ctx.run is None:
        raise MissingArtifact(reason, command)
    ctx.emit(Note(f"{reason}: the plan is made after preprocess"))
    return StepResult("done", "made after the download and preprocess")
