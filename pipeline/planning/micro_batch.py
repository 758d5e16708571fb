"""The micro-batch of a plan: how many rows at once, and what is recomputed so that they fit."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.base_model.precision import PRECISIONS, SMALLEST
from pipeline.base_model.shape import ModelShape
from pipeline.base_model.targets import target_names
from pipeline.common.errors import EnvironmentFault
from pipeline.config.schema import Config
from pipeline.planning.compute import Kernels, fused_works, layers_run_as
from pipeline.planning.memory_fused import estimate_fused
from pipeline.planning.memory_plain import MemoryEstimate, estimate
from pipeline.system.gpu import GIB, Device

USABLE_SHARE = 0.9  # of the free memory: the rest is fragmentation and what the formula doesn't know
MOST_CPU_ROWS = 2  # more rows at once gain nothing on a CPU
# Tokens of a forward pass. Recomputing all activations costs a third more work. It pays only where without it the GPU would get
# fewer tokens at once than keep it busy.
BUSY_TOKENS = 4096


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward pass.

    Attributes:
        recomputed_layers: so many of the model's save their input only and run again in the backward pass.
        keep_dequantized: fused kernels hold quantized weights in 16 bits too.
        memory: at the peak with it.
    """

    rows: int
    recomputed_layers: int
    keep_dequantized: bool
    memory: MemoryEstimate


class _Sizes:
    """Micro-batches of one config, with the memory they take."""

    def __init__(
        self, config: Config, shape: ModelShape, device: Device, kernels: Kernels, row_tokens: int, trained_share: float = 1.0
    ) -> None:
        self.config, self.shape, self.device, self.kernels = config, shape, device, kernels
        self.row_tokens, self.trained_share = row_tokens, trained_share

    def of(self, rows: int, recomputed_layers: int, *, keep: bool = False) -> MicroBatch:
        config, lora = self.config, self.config.train.lora
        if self.kernels == "fused":
            memory = estimate_fused(
                self.shape,
                precision_mode=config.train.precision_mode,
                rank=lora.r,
                target_modules=target_names(lora, self.shape),
                tokens=rows * self.row_tokens,
                recomputed_layers=recomputed_layers,
                keep_dequantized=keep,
                dropout=lora.dropout,
            )
        else:
            _, dtype, attention = how = layers_run_as(config, self.shape, self.device)
            memory = estimate(
                self.shape,
                precision_mode=config.train.precision_mode,
                compute_dtype=dtype,
                rank=lora.r,
                target_modules=target_names(lora, self.shape),
                rows=rows,
                row_tokens=self.row_tokens,
                checkpointing=recomputed_layers > 0,
                dropout=lora.dropout,
                dora=lora.dora,
                device=self.device.kind,
                by_offsets=attention == "varlen",
                trained_share=self.trained_share,
                footprint=self.shape.footprint(*how),
            )
        return MicroBatch(rows, recomputed_layers, keep, memory)

    def fits(self, batch: MicroBatch) -> bool:
        return fits(batch.memory, self.device)

    def largest(self, sizes: list[int], recomputed_layers: int) -> MicroBatch | None:
        """The first of these sizes that fits; the largest stands first."""
        return next((batch for rows in sizes if self.fits(batch := self.of(rows, recomputed_layers))), None)

    def least_recomputed(self, rows: int) -> MicroBatch:
        """As few layers recomputed as fit; all where the kernels know only all or none, or nothing fits."""
        layers = self.shape.layers
        if self.kernels == "plain":
            return self.of(rows, layers)
        return next((batch for n in range(1, layers) if self.fits(batch := self.of(rows, n))), self.of(rows, layers))


def choose_micro_batch(
    config: Config,
    shape: ModelShape,
    device: Device,
    kernels: Kernels,
    wanted_rows: int,
    row_tokens: int,
    reasons: dict[str, str],
    trained_share: float = 1.0,
) -> MicroBatch:
    """What the user set, else the largest micro-batch that fits.

    Args:
        wanted_rows: of an optimizer step; a micro-batch that is not set is a divisor, so that no step is larger.
        row_tokens: capacity of a row.
        reasons: the choice's reasons are added, for a person to read.
        trained_share: of the tokens those that have a label.

    Raises:
        EnvironmentFault: one row at a time with everything recomputed does not fit, and the user did not set its size.
    """
    sizes = _Sizes(config, shape, device, kernels, row_tokens, trained_share)
    set_rows, set_checkpointing = config.train.micro_batch, config.train.gradient_checkpointing
    rows = [set_rows] if set_rows != "auto" else _divisors(wanted_rows, MOST_CPU_ROWS if device.kind == "cpu" else wanted_rows)
    modes = [set_checkpointing] if set_checkpointing != "auto" else [False, True]
    largest = {mode: sizes.largest(rows, shape.layers if mode else 0) for mode in modes}
    fitting = [found for found in largest.values() if found]
    if not fitting and set_rows == "auto":
        raise _does_not_fit(sizes.of(1, shape.layers if modes[-1] else 0), config, shape, device, row_tokens)
    chosen = _better(fitting, sizes, wanted_rows) if fitting else sizes.of(rows[0], shape.layers if modes[-1] else 0)
    if chosen.recomputed_layers and set_checkpointing == "auto":
        chosen = sizes.least_recomputed(_enough_rows(rows, chosen.rows, row_tokens))
    chosen = _with_dequantized_weights(chosen, sizes)
    reasons["micro_batch"] = _why_rows(chosen, config, device, wanted_rows)
    reasons["gradient_checkpointing"] = _why_checkpointing(chosen, config, shape, largest)
    return chosen


def _enough_rows(rows: list[int], most: int, row_tokens: int) -> int:
    """The fewest rows that keep a GPU busy, of those up to `most`: fewer rows need fewer layers recomputed."""
    return min((each for each in rows if each <= most and each * row_tokens >= BUSY_TOKENS), default=most)


def _with_dequantized_weights(chosen: MicroBatch, sizes: _Sizes) -> MicroBatch:
    quantized = PRECISIONS[sizes.config.train.precision_mode].quantized
    if sizes.kernels == "plain" or not quantized or chosen.recomputed_layers or not sizes.device.total_bytes:
        return chosen
    dequantized = sizes.of(chosen.rows, 0, keep=True)
    return dequantized if sizes.fits(dequantized) else chosen


def memory_of(
    config: Config, shape: ModelShape, device: Device, rows: int, checkpointing: bool, row_tokens: int | None = None
) -> MemoryEstimate:
    """The peak with a micro-batch of the user's choice.

    Args:
        rows: of a forward pass.
        checkpointing: all layers save their input only.
        row_tokens: capacity of a row; None for `data.max_seq_len`.
    """
    row_tokens = row_tokens or config.data.max_seq_len
    kernels: Kernels = "fused" if fused_works(config, shape, device) else "plain"
    sizes = _Sizes(config, shape, device, kernels, row_tokens)
    return sizes.of(rows, shape.layers if checkpointing else 0).memory


def memory_fault(config: Config, shape: ModelShape, device: Device) -> EnvironmentFault | None:
    """What a plan would raise where not even one row fits; None where one does, or the size was set by the user."""
    if config.train.micro_batch != "auto":
        return None
    kernels: Kernels = "fused" if fused_works(config, shape, device) else "plain"
    sizes = _Sizes(config, shape, device, kernels, config.data.max_seq_len)
    smallest = sizes.of(1, shape.layers if config.train.gradient_checkpointing is not False else 0)
    return None if sizes.fits(smallest) else _does_not_fit(smallest, config, shape, device, sizes.row_tokens)


def _divisors(number: int, most: int) -> list[int]:
    """Divisors of `number` up to `most`, the largest first."""
    return [divisor for divisor in range(min(number, most), 0, -1) if number % divisor == 0]


def fits(memory: MemoryEstimate, device: Device) -> bool:
    """Whether the peak stays within what may be used; always where the memory is not known."""
    return not device.total_bytes or memory.total <= USABLE_SHARE * device.free_bytes


def _better(fitting: list[MicroBatch], sizes: _Sizes, wanted_rows: int) -> MicroBatch:
    """Without checkpointing, unless that leaves too few tokens at once to keep a GPU busy and checkpointing gives more."""
    plain, *checkpointed = fitting
    enough = min(wanted_rows * sizes.row_tokens, BUSY_TOKENS)
    if sizes.device.kind == "cpu" or not checkpointed or plain.rows * sizes.row_tokens >= enough:
        return plain
    return max(fitting, key=lambda batch: batch.rows)


def _why_rows(chosen: MicroBatch, config: Config, device: Device, wanted_rows: int) -> str:
    amount = f"about {_gib(chosen.memory.total)} of {_gib(device.free_bytes)} GiB free"
    if config.train.micro_batch != "auto":
        over = "" if fits(chosen.memory, device) else f"; it needs {amount} and may run out of memory"
        return f"set by you (train.micro_batch){over}"
    if not device.total_bytes:
        return "the device does not tell its memory, so all rows of a step at once"
    if chosen.rows == wanted_rows:
        return f"all rows of a step fit at once: {amount}"
    return "more rows at once gain nothing on a CPU" if device.kind == "cpu" else f"the most that fits: {amount}"


def _why_checkpointing(chosen: MicroBatch, config: Config, shape: ModelShape, largest: dict[bool, MicroBatch | None]) -> str:
    if config.train.gradient_checkpointing != "auto":
        return "set by you (train.gradient_checkpointing)"
    if not chosen.recomputed_layers:
        return "not needed: the activations fit"
    plain = largest.get(False)
    some = "" if chosen.recomputed_layers == shape.layers else f"{chosen.recomputed_layers} of {shape.layers} layers: "
    return f"{some}without it {f'only {plain.rows} at once' if plain else 'not even one row'} would fit"


def _does_not_fit(smallest: MicroBatch, config: Config, shape: ModelShape, device: Device, row_tokens: int) -> EnvironmentFault:
    memory = smallest.memory
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in memory.components().items())
    checkpointing = "with" if smallest.recomputed_layers else "without"
    message = (
        f"{device.name}: one row of {row_tokens:,} tokens {checkpointing} gradient checkpointing needs about "
        f"{memory.total / GIB:.2f} GiB and {USABLE_SHARE * device.free_bytes / GIB:.2f} GiB can be used ({parts})"
    )
    return EnvironmentFault(message, _way_out(smallest, config, shape, device))


def _way_out(smallest: MicroBatch, config: Config, shape: ModelShape, device: Device) -> str:
    """The setting whose change helps: checkpointing, a shorter row, smaller weights, else less of everything else on the GPU."""
    if not smallest.recomputed_layers:
        return "humigence config set train.gradient_checkpointing auto"
    length = config.data.max_seq_len
    # A window must be longer than what it repeats; where that is auto, it always is.
    shortest = max(128, 0 if config.data.window_overlap == "auto" else config.data.overlap + 1)
    while (length := length // 2) >= shortest:
        shorter = config.model_copy(update={"data": config.data.model_copy(update={"max_seq_len": length})})
        if fits(memory_of(shorter, shape, device, 1, True), device):
            return f"humigence config set data.max_seq_len {length}"
    if config.train.precision_mode != SMALLEST:
        return f"humigence config set train.precision_mode {SMALLEST}"
    return "free memory on this device, choose another one (compute.gpu), or a smaller base model"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"
