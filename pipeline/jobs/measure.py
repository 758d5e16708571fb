"""The job of measuring a plan on the real model: requests `measure`, with `loading` and `micro_batch` reported as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import BaseModel, require_base_model
from pipeline.base_model.shape import read_shape
from pipeline.common.errors import EnvironmentFault
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.dataset.packing import pack
from pipeline.jobs.server import Handler, Request
from pipeline.planning import measurements
from pipeline.planning.measurements import Measurement
from pipeline.planning.plan import Plan
from pipeline.planning.planner import known_shape, plan_for
from pipeline.planning.proved import Refused, inputs_of, save_refused
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import Device, choose_device, see_only
from pipeline.system.out_of_memory import NO_ROOM, unless_short

_ROWS = 256  # of the prepared ones: enough to be like the others


def handlers() -> Mapping[str, Handler]:
    return {"measure": measure}


def measure(request: Request, root: str, config: dict[str, Any]) -> Mapping[str, Any]:
    """Measure the plan of `config`, save it for the plans after it, and end with it.

    Raises:
        MissingArtifact: the base model is not here.
        EnvironmentFault: the plan does not fit after all.
    """
    settings, here = Config.model_validate(config), Workspace(Path(root))
    base, device = require_base_model(settings, here), choose_device(settings.compute.gpu)
    see_only(device)
    shape = known_shape(settings, here) or read_shape(base)
    plan = plan_for(settings, here, shape, device)
    request.report("loading", base=base.name, device=device.name)
    cost = unless_short(lambda: _cost(request, settings, here, base, plan, device))
    if cost is NO_ROOM:
        raise EnvironmentFault(
            f"{device.name}: the plan's micro-batch of {plan.micro_batch} rows finds no room",
            f"humigence config set train.micro_batch {max(1, plan.micro_batch // 2)}",
        )
    found = Measurement(
        inputs=measurements.inputs_of(settings, device.name),
        device=device.name,
        tokens_per_second=cost.tokens / cost.step_seconds,
        step_seconds=cost.step_seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
        predicted_memory_bytes=cost.plan.peak_memory_bytes,
    )
    measurements.save_measurement(here.project(settings.project), found)
    return found.to_json()


def _cost(request: Request, settings: Config, here: Workspace, base: BaseModel, plan: Plan, device: Device) -> Any:
    from pipeline.modeling.import_bitsandbytes import import_bitsandbytes

    import_bitsandbytes()  # before the trainer is imported
    from pipeline.training.measure import measure, random_rows
    from pipeline.training.packed_rows import PackedRow, PackedRows

    data = processed.find_processed(settings, here)
    shape = read_shape(base)

    def rows_of(plan: Plan) -> list[PackedRow]:
        if data is None or not plan.exact:
            return random_rows(plan.row_tokens, shape.vocabulary)
        rows = pack(data.lengths("train"), plan.row_tokens, plan.packs(settings))[:_ROWS]
        packed = PackedRows(data.dataset("train"), rows, data.loss_weights("train"))
        return [packed[i] for i in range(len(packed))]

    def replan(refused: Refused) -> Plan:
        refused = replace(refused, inputs=inputs_of(settings, shape, device))
        save_refused(here.project(settings.project), refused)
        return plan_for(settings, here, shape, device)

    def progress(done: int, of: int) -> None:
        request.raise_if_cancelled()
        request.report("micro_batch", done=done, of=of)

    return measure(settings, base, plan, device, rows_of, replan, progress)
