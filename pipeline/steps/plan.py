"""Step 2, plan: batch arithmetic, memory and time, before anything heavy is loaded. Needs no GPU and no download.

Made twice: from an estimate of the data first, exactly once the rows are prepared.
"""

from __future__ import annotations

from pipeline import catalogue
from pipeline.base_model.locate import locate
from pipeline.base_model.shape import ModelShape, read_shape
from pipeline.config import Config
from pipeline.context import StepContext, StepResult
from pipeline.dataset.estimate import estimate_figures
from pipeline.errors import MissingArtifact
from pipeline.events import Note
from pipeline.files import fingerprint
from pipeline.gpu import Device, choose_device
from pipeline.planning import DataFigures, Plan, banner, make_plan, read_plan, write_plan
from pipeline.runs import Workspace, read_state, runs_of

PLAN_FILE = "training_plan.json"
# Old runs looked at for a measured speed: each costs reading a log.
_RUNS_LOOKED_AT = 20


def run(ctx: StepContext) -> StepResult:
    """Make the plan, write it, tell it.

    Raises:
        MissingArtifact: the model's sizes are not known before it is downloaded (only when the step runs by itself; in a run the
            plan is then made after preprocess).
        EnvironmentFault: training does not fit into the device's memory, or the device is not there.
    """
    shape = known_shape(ctx.config, ctx.workspace)
    if shape is None:
        return _later(ctx)
    device = choose_device(ctx.config.compute.gpu)
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
    return plan.exact and shape is not None and figures is not None and plan.inputs == _inputs(ctx.config, shape, figures)


def plan_for(config: Config, workspace: Workspace, shape: ModelShape, device: Device) -> Plan:
    """The plan as things stand: exact when the rows are prepared."""
    figures = exact_figures(config, workspace) or estimate_figures(config, workspace)
    plan = make_plan(config, shape, device, figures, measured_tokens_per_second(config, workspace, device))
    return plan.with_inputs(_inputs(config, shape, figures))


def _inputs(config: Config, shape: ModelShape, figures: DataFigures) -> str:
    data = {"max_seq_len": config.data.max_seq_len, "packing": config.data.packing}
    counted = [figures.rows, figures.tokens, figures.exact]
    return fingerprint("plan", config.train.model_dump(mode="json"), data, shape.to_json(), counted)


def known_shape(config: Config, workspace: Workspace) -> ModelShape | None:
    """The base model's shape: of the model here, else of the catalogue, else None."""
    base = locate(config, workspace)
    if base is not None:
        return read_shape(base)
    entry = None if config.model.local_path else catalogue.find(config.model.repo)
    return entry.shape if entry else None


def exact_figures(config: Config, workspace: Workspace) -> DataFigures | None:
    """Counts of the prepared rows for today's config, model and file; None when they are not prepared."""
    from pipeline.dataset import processed

    found = processed.find(config, workspace)
    return found.figures(config) if found else None


def measured_tokens_per_second(config: Config, workspace: Workspace, device: Device) -> float:
    """The speed of the newest run here with this model, precision mode and device; 0 when there is none."""
    model = config.model.local_path or config.model.repo
    for old in runs_of(workspace)[:_RUNS_LOOKED_AT]:
        state = read_state(old)
        if (state.model, state.precision_mode, state.device) == (model, config.train.precision_mode, device.name):
            rate = state.tokens_per_second()
            if rate and state.train_ended:
                return rate
    return 0.0


def _later(ctx: StepContext) -> StepResult:
    name = ctx.config.model.local_path or ctx.config.model.repo
    reason = f"the sizes of {name} are not known before it is here"
    if ctx.run is None:
        raise MissingArtifact(reason, "humigence model download")
    ctx.emit(Note(f"{reason}: the plan is made after preprocess"))
    return StepResult("done", "made after the download and preprocess")
