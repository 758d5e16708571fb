"""The plan of a config as things stand here: its data prepared or not, its model here or not, this device.

Light: the wizard asks at each change what a config would take.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.base_model import catalogue
from pipeline.base_model.architecture import source_of
from pipeline.base_model.footprint import read_footprints
from pipeline.base_model.locate import locate
from pipeline.base_model.shape import ModelShape, from_config, read_shape, shape_of_config
from pipeline.base_model.targets import require_known_targets
from pipeline.common.errors import BadInput
from pipeline.common.files import fingerprint, read_json
from pipeline.config.affects import in_order, settings_of
from pipeline.config.schema import Config
from pipeline.dataset.estimate import estimate_figures
from pipeline.dataset.figures import DataFigures
from pipeline.planning import measurements
from pipeline.planning.compute import fused_works, no_packing
from pipeline.planning.export_formats import format_bytes, of_config
from pipeline.planning.plan import Plan, make_plan, unpacked
from pipeline.planning.proved import inputs_of, read_refused
from pipeline.runs.event_log import read_state
from pipeline.runs.folders import Workspace
from pipeline.runs.store import runs_of
from pipeline.system.gpu import Device

PLAN_FILE = "training_plan.json"  # the project's newest plan, in its folder
# Old runs looked at for a measured speed: each costs reading a log.
_RUNS_LOOKED_AT = 20


def plan_for(config: Config, workspace: Workspace, shape: ModelShape, device: Device) -> Plan:
    """The plan as things stand: exact when the rows are prepared.

    Args:
        shape: of the base model, see `known_shape`.

    Raises:
        BadInput: a setting does not work on this device, or names a layer that the model does not have.
        EnvironmentFault: the smallest micro-batch does not fit.
    """
    require_known_targets(config.train.lora, shape)
    refused = read_refused(workspace.project(config.project), inputs_of(config, shape, device))
    figures = _figures(config, workspace)
    fused = fused_works(config, shape, device) and not refused.fused
    laid_out = figures if fused or not no_packing(shape, refused) else _figures(unpacked(config), workspace)
    plan = make_plan(config, shape, device, laid_out, measured_tokens_per_second(config, workspace, device), refused)
    package = of_config(config, format_bytes(config, shape, locate(config, workspace)))
    return replace(plan.with_inputs(plan_inputs(config, shape, figures)), package=package)


def _figures(config: Config, workspace: Workspace) -> DataFigures:
    return exact_figures(config, workspace) or estimate_figures(config, workspace)


def plan_inputs(config: Config, shape: ModelShape, figures: DataFigures) -> str:
    """Fingerprint of what a plan is made from, free memory aside.

    Args:
        shape: of the base model.
        figures: counts of the prepared rows, or their estimate.
    """
    counted = [figures.rows, figures.tokens, figures.exact]
    return fingerprint("plan", *in_order(settings_of(config, "plan"), "train", "data"), shape.to_json(), counted)


def known_shape(config: Config, workspace: Workspace) -> ModelShape | None:
    """The base model's shape: of the model here, else of its config.json where that is, else of the catalogue, else None. With
    what was measured of its layers before."""
    base, source = locate(config, workspace), source_of(config, workspace)
    document = model_config(config, workspace)
    if base is not None:
        shape = read_shape(base)
    elif source is not None:
        shape = shape_of_config(source)
    elif document is not None:
        shape = from_config(document, "config.json")
    else:
        return None
    return replace(shape, footprints=read_footprints(document)) if document else shape


def model_config(config: Config, workspace: Workspace) -> dict[str, Any] | None:
    """The base model's config.json: of the files here, else what the catalogue has of it; None where there is neither.

    Raises:
        BadInput: it can't be read.
    """
    source = source_of(config, workspace)
    if source is None:
        entry = None if config.model.local_path else catalogue.curated_model(config.model.repo)
        return dict(entry.config) if entry else None
    if source.suffix.lower() == ".gguf":
        return None
    try:
        document = read_json(source)
    except (OSError, ValueError) as error:
        raise BadInput(f"{source}: cannot be read as JSON ({error})", "humigence model download") from error
    if not isinstance(document, dict):
        raise BadInput(f"{source}: not a JSON object", "humigence model download")
    return document


def exact_figures(config: Config, workspace: Workspace) -> DataFigures | None:
    """Counts of the prepared rows for today's config, model and file; None when they are not prepared."""
    from pipeline.dataset import processed

    found = processed.find_processed(config, workspace)
    return found.figures(config) if found else None


def measured_tokens_per_second(config: Config, workspace: Workspace, device: Device) -> float:
    """Real tokens a second of training: measured for this config (`humigence plan --measure`), else of the newest run here with
    this model, precision mode and device; 0 when there is neither."""
    measured = measurements.read_measurement(workspace.project(config.project), measurements.inputs_of(config, device.name))
    if measured:
        return measured.tokens_per_second
    model = config.model.local_path or config.model.repo
    for old in runs_of(workspace)[:_RUNS_LOOKED_AT]:
        state = read_state(old)
        if (state.model, state.precision_mode, state.device) == (model, config.train.precision_mode, device.name):
            rate = state.tokens_per_second()
            if rate and state.train_ended:
                return rate
    return 0.0
