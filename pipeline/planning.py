"""The plan of a run: batch arithmetic, cadence, memory and time, from the config, the model's shape, the device and the data.

Pure: same arguments, same plan, no torch, no files but the two functions at the end. It is made twice: from an estimate of the
data (`exact` is False, shown with ≈), and again from the prepared rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.base_model.shape import ModelShape
from pipeline.config import Config, PrecisionMode
from pipeline.errors import BadInput, EnvironmentFault
from pipeline.events import PlanMade
from pipeline.files import read_json, write_json
from pipeline.gpu import GIB, Device
from pipeline.memory import ADAPTER_BYTES, ComputeDtype, MemoryEstimate, estimate
from pipeline.packing import ROWS_AN_EPOCH

ROWS_PER_STEP = 16
EVALUATIONS = 10
SAVE_EVERY_SECONDS = 600.0
USABLE_SHARE = 0.9  # of the free memory: the rest is fragmentation and what the formula doesn't know
MOST_CPU_ROWS = 2  # more rows at once gain nothing on a CPU
# Recomputing activations costs a third more work. It pays only where without it the GPU would get fewer tokens at once than keep
# it busy.
_BUSY_TOKENS = 4096


@dataclass(frozen=True)
class DataFigures:
    """How much there is to train on in one epoch.

    Attributes:
        rows: packed rows of `row_tokens` capacity (conversations, where packing is off).
        tokens: real tokens, padding not counted; `trained_tokens` those with a label.
        exact: counted, not estimated from a sample.
    """

    rows: int
    row_tokens: int
    conversations: int
    tokens: int
    trained_tokens: int
    exact: bool


@dataclass(frozen=True)
class Plan:
    """What a run will do. Saved with it, and used again by a resume.

    Attributes:
        rows_per_epoch: rows of `row_tokens` capacity.
        tokens_per_step: capacity of an optimizer step; `train_tokens` are the real tokens of the whole run.
        warmup_steps: whole optimizer steps.
        save_every_steps: None saves by the clock only (`save_every_seconds`) and at each evaluation.
        memory: bytes at the peak by component.
        seconds: estimated wall time of training; 0 where unknown.
        reasons: choice -> why, in words for a person.
        inputs: fingerprint of the settings and figures it was made from.
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

    @property
    def peak_memory_bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def rows_per_step(self) -> int:
        return self.micro_batch * self.accumulation

    def with_inputs(self, inputs: str) -> Plan:
        return replace(self, inputs=inputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        """Keys of a newer version are ignored. Raises TypeError when one is missing."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})

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


def make_plan(config: Config, shape: ModelShape, device: Device, figures: DataFigures, tokens_per_second: float = 0.0) -> Plan:
    """The plan for these.

    Args:
        tokens_per_second: measured by an earlier run of the same kind on this device; 0 leaves the time unknown.

    Raises:
        EnvironmentFault: one row at a time with checkpointing does not fit, and nothing in that was set by the user.
    """
    train = config.train
    reasons: dict[str, str] = {}
    wanted_rows = _rows_per_step(config, figures, reasons)
    batch = _choose_batch(config, shape, device, wanted_rows, figures.row_tokens, reasons)
    accumulation = math.ceil(wanted_rows / batch.rows)
    per_epoch = steps_per_epoch(figures.rows, batch.rows, accumulation)
    total = _total_steps(config, per_epoch, reasons)
    train_tokens = round(figures.tokens * total / per_epoch)
    return Plan(
        exact=figures.exact,
        device=device.kind,
        precision_mode=train.precision_mode,
        compute_dtype=compute_dtype(config.train.precision_mode, device),
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
        gradient_checkpointing=batch.checkpointing,
        attention=_attention(config, shape, device, reasons),
        row_tokens=figures.row_tokens,
        memory=batch.memory.components(),
        free_memory_bytes=device.free_bytes,
        seconds=train_tokens / tokens_per_second if tokens_per_second > 0 else 0.0,
        reasons=reasons,
    )


def steps_per_epoch(rows: int, micro_batch: int, accumulation: int) -> int:
    """Optimizer steps of one epoch as `transformers.Trainer` counts them: a last, smaller one for what is left over."""
    return max(1, math.ceil(math.ceil(rows / micro_batch) / accumulation))


def compute_dtype(precision_mode: PrecisionMode, device: Device) -> ComputeDtype:
    """What the matrix products are computed in.

    On a GPU bfloat16 where it has it (capability 8), else float16. On a CPU with bfloat16 units bfloat16 too (NF4 trains 1.4
    times as fast in two thirds of the memory, measured on SmolLM2); not for 8-bit weights, whose products are faster in 32 bits.
    """
    if device.kind == "cpu":
        return "bfloat16" if device.bfloat16 and precision_mode != "lora_int8" else "float32"
    if precision_mode == "lora_fp16" or (device.capability or (8, 0)) < (8, 0):
        return "float16"
    return "bfloat16"


# Models whose attention is the plain one: grouped heads, a causal mask, at most a sliding window.
_PLAIN_ATTENTION = ("llama", "mistral", "qwen2", "qwen3")


def _attention(config: Config, shape: ModelShape, device: Device, reasons: dict[str, str]) -> str:
    """ "varlen" where torch's flash kernel can: an NVIDIA GPU of capability 8, heads it has a kernel for, 16-bit compute."""
    wanted = config.train.attention
    problem = _no_varlen(shape, device)
    if wanted == "varlen" and problem:
        raise BadInput(f"train.attention: varlen does not work here: {problem}", "humigence config set train.attention auto")
    if wanted != "auto":
        reasons["attention"] = "set by you (train.attention)"
        return wanted
    reasons["attention"] = problem or "documents attend by their offsets, without a mask"
    return "sdpa" if problem else "varlen"


def _no_varlen(shape: ModelShape, device: Device) -> str:
    if device.kind != "cuda" or (device.capability or (0, 0)) < (8, 0):
        return "it needs an NVIDIA GPU of capability 8.0 or more"
    if shape.model_type not in _PLAIN_ATTENTION:
        return f"not proved for {shape.model_type} models"
    return "" if shape.head_dim % 8 == 0 and shape.head_dim <= 256 else f"no kernel for heads of {shape.head_dim}"


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


# ------------------------------------------------------------------------------------------------- the micro-batch


@dataclass(frozen=True)
class _Batch:
    rows: int
    checkpointing: bool
    memory: MemoryEstimate


def _choose_batch(
    config: Config, shape: ModelShape, device: Device, wanted_rows: int, row_tokens: int, reasons: dict[str, str]
) -> _Batch:
    """Micro-batch and checkpointing: what the user set, else the largest that fits."""

    def batch(rows: int, checkpointing: bool) -> _Batch:
        return _Batch(rows, checkpointing, memory_of(config, shape, device, rows, checkpointing, row_tokens))

    set_rows, set_checkpointing = config.train.micro_batch, config.train.gradient_checkpointing
    sizes = [set_rows] if set_rows != "auto" else _divisors(wanted_rows, MOST_CPU_ROWS if device.kind == "cpu" else wanted_rows)
    modes = [set_checkpointing] if set_checkpointing != "auto" else [False, True]
    largest = {mode: _largest_fitting([batch(rows, mode) for rows in sizes], device) for mode in modes}
    fitting = [found for found in largest.values() if found]
    if not fitting and set_rows == "auto":
        raise _does_not_fit(batch(1, modes[-1]), config, shape, device, row_tokens)
    chosen = _better(fitting, config, wanted_rows, device) if fitting else batch(sizes[0], modes[-1])
    reasons["micro_batch"] = _why_rows(chosen, config, device, wanted_rows)
    reasons["gradient_checkpointing"] = _why_checkpointing(chosen, config, largest)
    return chosen


def memory_of(
    config: Config, shape: ModelShape, device: Device, rows: int, checkpointing: bool, row_tokens: int | None = None
) -> MemoryEstimate:
    """Bytes at the peak with this micro-batch; rows of `data.max_seq_len` where `row_tokens` is not given."""
    lora = config.train.lora
    return estimate(
        shape,
        precision_mode=config.train.precision_mode,
        compute_dtype=compute_dtype(config.train.precision_mode, device),
        rank=lora.r,
        target_modules=lora.target_modules,
        rows=rows,
        row_tokens=row_tokens or config.data.max_seq_len,
        checkpointing=checkpointing,
        dropout=lora.dropout,
        device=device.kind,
    )


def _divisors(number: int, most: int) -> list[int]:
    """Divisors of `number` up to `most`, the largest first."""
    return [divisor for divisor in range(min(number, most), 0, -1) if number % divisor == 0]


def fits(memory: MemoryEstimate, device: Device) -> bool:
    """Whether the peak stays within what may be used; always where the memory is not known."""
    return not device.total_bytes or memory.total <= USABLE_SHARE * device.free_bytes


def _largest_fitting(batches: list[_Batch], device: Device) -> _Batch | None:
    return next((batch for batch in batches if fits(batch.memory, device)), None)


def _better(fitting: list[_Batch], config: Config, wanted_rows: int, device: Device) -> _Batch:
    """Without checkpointing, unless that leaves too few tokens at once to keep a GPU busy and checkpointing gives more."""
    plain, *checkpointed = fitting
    enough = min(wanted_rows * config.data.max_seq_len, _BUSY_TOKENS)
    if device.kind == "cpu" or not checkpointed or plain.rows * config.data.max_seq_len >= enough:
        return plain
    return max(fitting, key=lambda batch: batch.rows)


def _why_rows(chosen: _Batch, config: Config, device: Device, wanted_rows: int) -> str:
    amount = f"about {_gib(chosen.memory.total)} of {_gib(device.free_bytes)} GiB free"
    if config.train.micro_batch != "auto":
        over = "" if fits(chosen.memory, device) else f"; it needs {amount} and may run out of memory"
        return f"set by you (train.micro_batch){over}"
    if not device.total_bytes:
        return "the device does not tell its memory, so all rows of a step at once"
    if chosen.rows == wanted_rows:
        return f"all rows of a step fit at once: {amount}"
    return "more rows at once gain nothing on a CPU" if device.kind == "cpu" else f"the most that fits: {amount}"


def _why_checkpointing(chosen: _Batch, config: Config, largest: dict[bool, _Batch | None]) -> str:
    if config.train.gradient_checkpointing != "auto":
        return "set by you (train.gradient_checkpointing)"
    if not chosen.checkpointing:
        return "not needed: the activations fit"
    plain = largest.get(False)
    return f"without it {f'only {plain.rows} at once' if plain else 'not even one row'} would fit"


def _does_not_fit(smallest: _Batch, config: Config, shape: ModelShape, device: Device, row_tokens: int) -> EnvironmentFault:
    memory = smallest.memory
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in memory.components().items())
    checkpointing = "with" if smallest.checkpointing else "without"
    message = (
        f"{device.name}: one row of {row_tokens:,} tokens {checkpointing} gradient checkpointing needs about "
        f"{memory.total / GIB:.2f} GiB and {USABLE_SHARE * device.free_bytes / GIB:.2f} GiB can be used ({parts})"
    )
    return EnvironmentFault(message, _way_out(smallest, config, shape, device))


def _way_out(smallest: _Batch, config: Config, shape: ModelShape, device: Device) -> str:
    """The setting whose change helps: checkpointing, a shorter row, 4-bit weights, else less of everything else on the GPU."""
    if not smallest.checkpointing:
        return "humigence config set train.gradient_checkpointing auto"
    length = config.data.max_seq_len
    # A window must be longer than what it repeats; where that is auto, it always is.
    shortest = max(128, 0 if config.data.window_overlap == "auto" else config.data.overlap + 1)
    while (length := length // 2) >= shortest:
        shorter = config.model_copy(update={"data": config.data.model_copy(update={"max_seq_len": length})})
        if fits(memory_of(shorter, shape, device, 1, True), device):
            return f"humigence config set data.max_seq_len {length}"
    if config.train.precision_mode != "qlora_nf4":
        return "humigence config set train.precision_mode qlora_nf4"
    return "free memory on this device, choose another one (compute.gpu), or a smaller base model"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


# ------------------------------------------------------------------------------------------------- for a person


def banner(plan: Plan, shape: ModelShape, device: Device) -> str:
    """Two lines: how the run computes, and how its steps are made up."""
    trained = plan.memory["adapter"] / ADAPTER_BYTES
    checkpointing = "on" if plan.gradient_checkpointing else "off"
    return (
        f"{plan.precision_mode} · compute {plan.compute_dtype} · attention {plan.attention} · checkpointing {checkpointing} · "
        f"{trained / 1e6:.2f} M of {shape.parameters / 1e6:,.0f} M parameters trained · {device.name}\n"
        f"{'' if plan.exact else '≈ '}{plan.total_steps:,} steps of {plan.micro_batch} × {plan.accumulation} rows of "
        f"{plan.row_tokens:,} tokens · micro-batch: {plan.reasons['micro_batch']}"
    )


# ------------------------------------------------------------------------------------------------- files


def write_plan(path: Path, plan: Plan) -> None:
    """Save the plan as JSON (`runs/<project>/training_plan.json`, `plan.json` of a run)."""
    write_json(path, plan.to_json())


def read_plan(path: Path) -> Plan:
    """A saved plan. Raises `FileNotFoundError`, and `BadInput` when the file is not a plan."""
    try:
        return Plan.from_json(read_json(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a training plan ({error})", "humigence plan makes a new one") from error
