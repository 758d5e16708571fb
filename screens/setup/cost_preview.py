"""What a config would cost on this machine: device, memory and plan, or why there is none yet. Reads files: call it in a thread.

`pipeline.planning.planner` is imported where it is needed: nothing of it is wanted before the first screen stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.base_model.catalogue import curated_model
from pipeline.base_model.locate import locate
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError
from pipeline.common.text import counted, duration
from pipeline.config.schema import Config, ExportFormat
from pipeline.dataset.figures import DataFigures
from pipeline.planning.export_formats import format_bytes
from pipeline.planning.micro_batch import USABLE_SHARE, memory_of
from pipeline.planning.plan import Plan, make_plan
from pipeline.runs.folders import Workspace
from pipeline.system.disk import free_disk_bytes
from pipeline.system.gpu import Device, choose_device
from pipeline.tokenization import templates
from pipeline.tokenization.templates import Templates

Verdict = Literal["fits", "tight", "too much", "unknown"]
# Rows enough that the batch does not shrink: what memory is shown for while there is no data to count.
_ANY_ROWS = 10_000


@dataclass(frozen=True)
class Outlook:
    """What is known of a config's cost.

    Attributes:
        memory: bytes at the peak by component; empty where the model's sizes are not known.
        free_bytes: what the device has free now; 0 where it does not report it.
        problem: why there is no plan, `hint` what to do about it.
        model, templates: the base model's name and what it has of chat templates; None while it is not here.
        package: bytes of each format there is, empty where the model's sizes are not known.
        free_disk_bytes: on the disk they go to.
        download_bytes: about what is fetched before anything else; 0 where nothing is, or nobody knows.
    """

    device: Device | None = None
    shape: ModelShape | None = None
    plan: Plan | None = None
    memory: dict[str, int] = field(default_factory=dict)
    free_bytes: int = 0
    problem: str = ""
    hint: str = ""
    model: str = ""
    templates: Templates | None = None
    package: dict[ExportFormat, int] = field(default_factory=dict)
    free_disk_bytes: int = 0
    download_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def verdict(self) -> Verdict:
        """`tight` is within what is free and above what a plan uses of it."""
        if not self.memory or not self.free_bytes:
            return "unknown"
        if self.total_bytes <= USABLE_SHARE * self.free_bytes:
            return "fits"
        return "tight" if self.total_bytes <= self.free_bytes else "too much"


def look(config: Config, workspace: Workspace) -> Outlook:
    """Everything that can be predicted of `config` here and now; paths below the workspace as they are entered."""
    outlook = _look(config, workspace)
    return replace(outlook, problem=outlook.problem.replace(f"{workspace.root}/", ""))


def _look(config: Config, workspace: Workspace) -> Outlook:
    from pipeline.planning.planner import known_shape

    try:
        device = choose_device(config.compute.gpu)
    except EnvironmentFault as error:
        return Outlook(problem=error.message, hint=error.hint)
    outlook = Outlook(device=device, free_bytes=device.free_bytes)
    try:
        shape = known_shape(config, workspace)
        base = locate(config, workspace)
    except BadInput as error:
        return replace(outlook, problem=error.message, hint=error.hint)
    if base is not None:
        outlook = replace(outlook, model=base.name, templates=templates.of(base))
    elif not config.model.local_path and (known := curated_model(config.model.repo)):
        outlook = replace(outlook, download_bytes=known.download_bytes)
    if shape is None:
        name = config.model.local_path or config.model.repo
        problem = f"the sizes of {name} are known once it is here" if name else "no model is chosen yet"
        return replace(outlook, problem=problem, hint="humigence model download" if name else "")
    free = free_disk_bytes(workspace.resolve(config.export.artifacts_dir))
    outlook = replace(outlook, shape=shape, package=format_bytes(config, shape, base), free_disk_bytes=free)
    return _planned(outlook, config, workspace, shape, device)


def _planned(outlook: Outlook, config: Config, workspace: Workspace, shape: ModelShape, device: Device) -> Outlook:
    from pipeline.planning.planner import plan_for

    try:
        plan = plan_for(config, workspace, shape, device)
    except EnvironmentFault as error:  # not even one row fits
        return replace(outlook, memory=_least_memory(config, shape, device), problem=error.message, hint=error.hint)
    except HumigenceError as error:  # the data
        memory = _memory_for_any_rows(config, shape, device)
        return replace(outlook, memory=memory, problem=error.message, hint=error.hint)
    return replace(outlook, plan=plan, memory=plan.memory)


def _memory_for_any_rows(config: Config, shape: ModelShape, device: Device) -> dict[str, int]:
    many = DataFigures(
        _ANY_ROWS, config.data.max_seq_len, conversations=_ANY_ROWS, tokens=_ANY_ROWS, trained_tokens=_ANY_ROWS, exact=False
    )
    try:
        return make_plan(config, shape, device, many).memory
    except HumigenceError:
        return _least_memory(config, shape, device)


def _least_memory(config: Config, shape: ModelShape, device: Device) -> dict[str, int]:
    checkpointing = config.train.gradient_checkpointing is not False
    return memory_of(config, shape, device, 1, checkpointing).components()


# ------------------------------------------------------------------------------------------------------ as text


def plan_line(plan: Plan) -> str:
    """`≈ micro-batch 16 × 6 · 1,204 steps · 3 epochs · about 41 m 3 s`."""
    about = "" if plan.exact else "≈ "
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs:g} epochs"
    steps = "1 step" if plan.total_steps == 1 else f"{counted(plan.total_steps)} steps"
    time = f"about {duration(plan.seconds)}" if plan.seconds else "time not measured yet"
    return f"{about}micro-batch {plan.micro_batch} × {plan.accumulation} · {steps} · {epochs} · {time}"
