"""The plan of a run: batch arithmetic, cadence, memory and time, from the config, the model's shape, the device and the data.

Pure: same arguments, same plan, no torch, no files but the two functions at the end. It is made twice: from an estimate of the
data (`exact` is False, shown with ≈), and again from the prepared rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.base_model.precision import ComputeDtype
from pipeline.base_model.shape import ModelShape, adapter_parameters
from pipeline.base_model.targets import target_names
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json, write_json
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.dataset.packing import ROWS_AN_EPOCH
from pipeline.planning.compute import Isolation, computing, no_packing
from pipeline.planning.micro_batch import choose_micro_batch
from pipeline.planning.proved import Refused
from pipeline.runs.events import PlanMade
from pipeline.system.gpu import Device

ROWS_PER_STEP = 16  # of an optimizer step, where the data has enough
EVALUATIONS = 10  # of a run
SAVE_EVERY_SECONDS = 600.0
_NOTHING_REFUSED = Refused()


@dataclass(frozen=True)
class Plan:
    """What a run will do. Saved with it, and used again by a resume.

    Attributes:
        rows_per_epoch: rows of `row_tokens` capacity.
        tokens_per_step: capacity of an optimizer step; `train_tokens` are the real tokens of the whole run.
        micro_batch, accumulation: rows of a forward pass; forward passes of an optimizer step.
        warmup_steps: whole optimizer steps.
        save_every_steps: None saves by the clock only (`save_every_seconds`) and at each evaluation.
        memory: bytes at the peak by component.
        seconds: estimated wall time of training; 0 where unknown.
        free_memory_bytes: of the device when the plan was made, as `compute.memory_limit_gib` allows.
        reasons: choice -> why, for a person to read.
        inputs: fingerprint of the settings and figures it was made from.
        kernels: "fused" trains with layers of our own, "plain" with the model's; `attention` is of the model's.
        recomputed_layers, keep_dequantized: see `micro_batch.MicroBatch`.
        package: bytes of what will be packaged, by format.
        isolation: how documents are kept apart, see `compute.Isolation`; empty in a plan of a version that did not say it.
        proved: what the proof at load found (fields of `events.LayersProved`), and with which libraries; empty before it.
        target_modules: names of the linear layers that get an adapter.
        held_out: how the rows that are judged while training are chosen (`held_out.drawn`); empty in a plan of a version that
            took the first ones.
    """

    exact: bool
    device: str
    precision_mode: str
    compute_dtype: ComputeDtype
    micro_batch: int
    accumulation: int
    rows_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    epochs: float
    warmup_steps: int
    tokens_per_step: int
    train_tokens: int
    eval_every_steps: int
    save_every_steps: int | None
    save_every_seconds: float
    gradient_checkpointing: bool
    attention: str
    row_tokens: int
    memory: dict[str, int]
    free_memory_bytes: int
    seconds: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)
    inputs: str = ""
    kernels: str = "plain"
    recomputed_layers: int = 0
    keep_dequantized: bool = False
    trained_parameters: int = 0
    target_modules: tuple[str, ...] = ()
    package: dict[str, int] = field(default_factory=dict)
    isolation: Isolation | Literal[""] = ""
    proved: dict[str, Any] = field(default_factory=dict)
    held_out: Literal["drawn", ""] = ""

    def packs(self, config: Config) -> bool:
        """Whether several documents share a row; `config` decides for a plan of a version that did not say it."""
        return self.isolation != "rows" if self.isolation else config.data.packing

    @property
    def peak_memory_bytes(self) -> int:
        return sum(self.memory.values())

    def with_inputs(self, inputs: str) -> Plan:
        return replace(self, inputs=inputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        """The plan of `to_json`; keys of a newer version are ignored.

        Raises:
            TypeError: one is missing.
        """
        known = {each.name for each in fields(cls)}
        named = {name: value for name, value in document.items() if name in known}
        return cls(**named | {"target_modules": tuple(named.get("target_modules", ()))})

    def event(self) -> PlanMade:
        return PlanMade(
            exact=self.exact,
            micro_batch=self.micro_batch,
            accumulation=self.accumulation,
            total_steps=self.total_steps,
            tokens_per_step=self.tokens_per_step,
            train_tokens=self.train_tokens,
            eval_every_steps=self.eval_every_steps,
            peak_memory_bytes=self.peak_memory_bytes,
            seconds=self.seconds,
        )


def make_plan(
    config: Config,
    shape: ModelShape,
    device: Device,
    figures: DataFigures,
    tokens_per_second: float = 0.0,
    refused: Refused = _NOTHING_REFUSED,
) -> Plan:
    """The plan for these.

    Args:
        shape: of the base model.
        figures: of the data, estimated or counted; which of them says `exact`.
        tokens_per_second: measured by an earlier run of the same kind on this device; 0 leaves the time unknown.
        refused: what a proof on the loaded model found; the figures must be of unpacked rows where it refused packing.

    Raises:
        EnvironmentFault: one row at a time with checkpointing does not fit, and nothing in that was set by the user.
    """
    train = config.train
    reasons: dict[str, str] = {}
    device = device.within(config.compute.memory_limit_gib)
    wanted_rows = _rows_per_step(config, figures, reasons)
    how = computing(config, shape, device, reasons, refused)
    share = min(1.0, figures.trained_tokens / max(1, figures.tokens))
    batch = choose_micro_batch(config, shape, device, how.kernels, wanted_rows, figures.row_tokens, reasons, share)
    accumulation = math.ceil(wanted_rows / batch.rows)
    per_epoch = steps_per_epoch(figures.rows, batch.rows, accumulation)
    total = _total_steps(config, per_epoch, reasons)
    train_tokens = round(figures.tokens * total / per_epoch)
    return Plan(
        exact=figures.exact,
        device=device.kind,
        precision_mode=train.precision_mode,
        compute_dtype=how.dtype,
        micro_batch=batch.rows,
        accumulation=accumulation,
        rows_per_epoch=figures.rows,
        steps_per_epoch=per_epoch,
        total_steps=total,
        epochs=train.epochs,
        warmup_steps=math.ceil(train.warmup_ratio * total),
        tokens_per_step=batch.rows * accumulation * figures.row_tokens,
        train_tokens=train_tokens,
        eval_every_steps=_eval_every(config, total, reasons),
        save_every_steps=None if train.save_every_steps == "auto" else train.save_every_steps,
        save_every_seconds=SAVE_EVERY_SECONDS,
        gradient_checkpointing=batch.recomputed_layers > 0,
        attention=how.attention,
        isolation=how.isolation,
        row_tokens=figures.row_tokens,
        memory=batch.memory.components(),
        free_memory_bytes=device.free_bytes,
        seconds=train_tokens / tokens_per_second if tokens_per_second > 0 else 0.0,
        reasons=reasons,
        kernels=how.kernels,
        recomputed_layers=batch.recomputed_layers,
        keep_dequantized=batch.keep_dequantized,
        trained_parameters=adapter_parameters(shape, train.lora.r, target_names(train.lora, shape), dora=train.lora.dora),
        target_modules=target_names(train.lora, shape),
        held_out="drawn",
    )


class CountedData(Protocol):
    """What is needed of `dataset.processed.ProcessedData`."""

    def figures(self, config: Config) -> DataFigures: ...


def plan_again(config: Config, shape: ModelShape, device: Device, data: CountedData, plan: Plan, refused: Refused) -> Plan:
    """The plan in place of `plan` after a proof on the loaded model.

    Args:
        data: the prepared rows, the same for both plans whether they are packed or not.
        refused: everything the proof has found.
    """
    laid_out = unpacked(config) if no_packing(shape, refused) else config
    speed = plan.train_tokens / plan.seconds if plan.seconds else 0.0
    again = make_plan(config, shape, device, data.figures(laid_out), speed, refused)
    return replace(again, inputs=plan.inputs, package=plan.package)


def unpacked(config: Config) -> Config:
    """The config with `data.packing` off: what was prepared by it is the same."""
    return config.model_copy(update={"data": config.data.model_copy(update={"packing": False})})


def steps_per_epoch(rows: int, micro_batch: int, accumulation: int) -> int:
    """Optimizer steps of one epoch as `transformers.Trainer` counts them: a last, smaller one for what is left over.

    Args:
        rows: of the epoch.
        micro_batch: rows of a forward pass.
        accumulation: forward passes of a step.
    """
    return max(1, math.ceil(math.ceil(rows / micro_batch) / accumulation))


# ------------------------------------------------------------------------------------------------- steps


def _rows_per_step(config: Config, figures: DataFigures, reasons: dict[str, str]) -> int:
    target = config.train.tokens_per_step_target
    capacity = figures.row_tokens
    if target != "auto":
        reasons["tokens_per_step"] = f"{target:,} set by you (train.tokens_per_step_target)"
        return max(1, math.ceil(target / capacity))
    rows = figures.rows * min(1.0, config.train.epochs)
    most = max(1, min(ROWS_PER_STEP, int(rows / ROWS_AN_EPOCH)))
    chosen = int(2 ** math.floor(math.log2(most)))  # a power of two has micro-batches of every size as divisors
    full = chosen == ROWS_PER_STEP
    why = "" if full else f", fewer than {ROWS_PER_STEP} so that a pass over {figures.rows:,} rows has steps enough to judge"
    reasons["tokens_per_step"] = f"{chosen} × {capacity:,}{why}"
    return chosen


def _total_steps(config: Config, per_epoch: int, reasons: dict[str, str]) -> int:
    by_epochs = max(1, math.ceil(config.train.epochs * per_epoch))
    limit = config.train.max_steps
    if limit is not None and limit < by_epochs:
        reasons["total_steps"] = f"{limit} of {by_epochs}: set by you (train.max_steps)"
        return limit
    return by_epochs


def _eval_every(config: Config, total: int, reasons: dict[str, str]) -> int:
    wanted = config.train.eval_every_steps
    if wanted != "auto":
        reasons["eval_every_steps"] = "set by you (train.eval_every_steps)"
        return wanted
    return max(1, total // EVALUATIONS)


# ------------------------------------------------------------------------------------------------- for a person


def banner(plan: Plan, shape: ModelShape, device: Device) -> str:
    """Three lines: how the run computes, how its steps are made up, and which layers get an adapter."""
    return (
        f"{plan.precision_mode} · compute {plan.compute_dtype} · {kernels_text(plan)} · "
        f"checkpointing {checkpointing_text(plan)} · "
        f"{plan.trained_parameters / 1e6:.2f} M of {shape.parameters / 1e6:,.0f} M parameters trained · {device.name}\n"
        f"{'' if plan.exact else '≈ '}{plan.total_steps:,} steps of {plan.micro_batch} × {plan.accumulation} rows of "
        f"{plan.row_tokens:,} tokens · micro-batch: {plan.reasons['micro_batch']}\n"
        f"an adapter on {', '.join(plan.target_modules)}"
    )


def kernels_text(plan: Plan) -> str:
    """`fused kernels`, or the attention of the model's own."""
    return "fused kernels" if plan.kernels == "fused" else f"attention {plan.attention}"


def checkpointing_text(plan: Plan) -> str:
    """`off`, `on`, or of how many layers."""
    if not plan.gradient_checkpointing:
        return "off"
    return f"of {plan.recomputed_layers} layers" if plan.kernels == "fused" else "on"


# ------------------------------------------------------------------------------------------------- files


def write_plan(path: Path, plan: Plan) -> None:
    """Save the plan as JSON (`runs/<project>/training_plan.json`, `plan.json` of a run)."""
    write_json(path, plan.to_json())


def read_plan(path: Path) -> Plan:
    """A saved plan.

    Raises:
        FileNotFoundError: there is none.
        BadInput: the file is not a plan.
    """
    try:
        return Plan.from_json(read_json(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a training plan ({error})", "humigence plan makes a new one") from error
