"""Peak memory of QLoRA training by component: plain arithmetic, light enough for a form to ask at each key press.

The peak is at the loss or, with checkpointing, perhaps where one layer is computed again: everything that stands all the time,
plus the activations saved for the backward pass, plus the larger of those two. What a layer saves is its `Footprint`, measured on
the model's class or from a formula; peft's LoRA adds to it what is told here. `tests/pipeline/planning/test_memory.py` holds the
sum to measured peaks, `test_layer_formula.py` the activations to what autograd saves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace

from pipeline.base_model.footprint import Footprint, LayerFootprint, Read, Weights
from pipeline.base_model.precision import DTYPE_BYTES, PRECISIONS, ComputeDtype, weight_bytes
from pipeline.base_model.shape import ModelShape, adapter_parameters, linear_layers
from pipeline.config.schema import PrecisionMode
from pipeline.planning.layer_formula import formula_footprint

ADAPTER_BYTES = 4  # a weight: peft holds adapters in 32 bits
# Bytes a process holds before the first tensor: the CUDA context with the kernels' code; on the CPU, Python with torch,
# transformers and peft loaded.
CONTEXT_BYTES = {"cuda": 740 << 20, "cpu": 900 << 20}
BLOCKS = 1.012
"""Bytes of torch's blocks to those of the tensors in them, with segments that can grow."""
# Where autograd recomputes, what each layer saves stands among what it frees: holes, at most so many bytes of them.
_HOLES = 320 << 20
# Bytes a logit of the loss, (of all, of the trained ones): all in the compute dtype, and of the trained ones the log-softmax in
# 32 bits, its gradient, and that once more in the compute dtype. For float16 the trainer first makes 32-bit logits of all.
_LOGIT_BYTES = {"bfloat16": (2, 10), "float16": (4, 10.5), "float32": (4, 8)}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak.

    Attributes:
        weights: of the frozen base model, de-quantized buffers included.
        adapter: of LoRA's A and B.
        optimizer: AdamW's moments and the adapter's gradients.
        activations: saved for the backward pass, and what passes through it.
        logits: of the loss, with its gradient.
        context: outside of torch's own count of tensors: the process, and what rounding to blocks and holes between them take.
    """

    weights: int
    adapter: int
    optimizer: int
    activations: int
    logits: int
    context: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def components(self) -> dict[str, int]:
        return asdict(self)


def estimate(
    shape: ModelShape,
    *,
    precision_mode: PrecisionMode,
    compute_dtype: ComputeDtype,
    rank: int,
    target_modules: Collection[str],
    rows: int,
    row_tokens: int,
    checkpointing: bool,
    dropout: float = 0.0,
    dora: bool = False,
    device: str = "cuda",
    by_offsets: bool = False,
    trained_share: float = 1.0,
    footprint: Footprint | None = None,
) -> MemoryEstimate:
    """The peak of one forward and backward pass over `rows` × `row_tokens` tokens and the optimizer step after it, bytes.

    Args:
        rank: of LoRA.
        target_modules: names of linear layers that have an adapter; those the model lacks are left out.
        rows, row_tokens: the micro-batch, padding included.
        checkpointing: all layers save their input only.
        dropout: share of the adapters' inputs.
        dora: the lengths of the weights are trained apart.
        device: "cuda" or "cpu".
        by_offsets: attention is by the documents' offsets, without a mask.
        trained_share: of the tokens that have a label.
        footprint: of the model's layers with this type, device and attention; None takes a formula's.
    """
    tokens = rows * row_tokens
    item = DTYPE_BYTES[compute_dtype]  # bytes a feature
    layers = footprint or formula_footprint(shape, compute_dtype, by_offsets=by_offsets)
    weights = layers.weights
    trained = (
        _trained(layers, rank, target_modules, dora) if footprint else adapter_parameters(shape, rank, target_modules, dora=dora)
    )
    inputs = _Inputs(precision_mode, item, device, dora)

    def saved_by(layer: LayerFootprint) -> float:
        per_token = inputs.saved(layer, rank, target_modules, dropout)
        return layer.saved.of(rows, row_tokens) + tokens * per_token + inputs.weights(layer, target_modules, dropout)

    all_bytes, trained_bytes = _LOGIT_BYTES[compute_dtype]
    logits = round(tokens * (all_bytes + trained_bytes * trained_share) * shape.vocabulary)
    # In a layer's forward pass, before there are logits or when they are gone.
    passing: float = max((inputs.passing(layer, target_modules) for layer in layers.layers), default=0)
    if checkpointing:
        saved = sum(
            layer.count * (layer.enters.of(rows, row_tokens) + tokens * inputs.never_freed(layer)) for layer in layers.layers
        )
        passing += max(map(saved_by, layers.layers), default=0)  # one layer at a time is recomputed
    else:
        saved = sum(layer.count * saved_by(layer) for layer in layers.layers)
    above_logits = max(0.0, passing - logits)
    parts = MemoryEstimate(
        weights=weight_bytes(shape, precision_mode, compute_dtype, weights)
        + _dequantized_bytes(shape, precision_mode, item, weights),
        adapter=ADAPTER_BYTES * trained,
        optimizer=3 * ADAPTER_BYTES * trained,  # the gradient and AdamW's two moments
        activations=round(saved + above_logits + layers.around.of(rows, row_tokens)),
        logits=logits,
        context=0,
    )
    # Measured: experts work on a copy of a token each, and two such tensors leave holes that logits don't fit into.
    copies = 2 * item * tokens * shape.experts_per_token * shape.hidden
    return with_context(parts, device, copies + (min(_HOLES, parts.activations // 2) if checkpointing else 0))


def with_context(parts: MemoryEstimate, device: str, holes: int = 0) -> MemoryEstimate:
    """With what is held beside the tensors: by the process, and by torch in blocks larger than what is in them.

    Args:
        parts: `context` is replaced.
        device: "cuda" or "cpu"; without blocks on the CPU.
        holes: bytes between tensors that nothing fits into.
    """
    rounding = round((BLOCKS - 1) * parts.total) + holes if device == "cuda" else 0
    return replace(parts, context=CONTEXT_BYTES[device] + rounding)


def _trained(footprint: Footprint, rank: int, targets: Collection[str], dora: bool) -> int:
    """Trained parameters, as `adapter_parameters` counts them."""
    adapted = ((layer.count, read) for layer in footprint.layers for read in layer.reads if read.name in targets)
    return sum(count * (rank * (read.inputs + read.outputs) + dora * read.outputs) for count, read in adapted)


def _dequantized_bytes(shape: ModelShape, precision_mode: PrecisionMode, item: int, weights: Weights | None) -> int:
    """Bytes of the largest layer in the compute dtype, for the moment it is multiplied with."""
    if not PRECISIONS[precision_mode].quantized:
        return 0
    return item * (weights.largest if weights else max(inputs * outputs for inputs, outputs in linear_layers(shape).values()))


class _Inputs:
    """Inputs of a decoder layer's linear layers that are saved for its backward pass, bytes a token."""

    def __init__(self, mode: PrecisionMode, item: int, device: str, dora: bool) -> None:
        self._precision, self._item, self._device, self._dora = PRECISIONS[mode], item, device, dora

    def saved(self, layer: LayerFootprint, rank: int, targets: Collection[str], dropout: float) -> int:
        """With dropout each adapter has an input of its own and a mask: a byte a feature, on a CPU a 32-bit number. Without it
        they share what they read, if that is not saved anyway, unless peft casts it to the 32 bits of the adapter and autocast
        back: a copy each. It leaves that out for quantized layers where it sees autocast on, which it looks for on the GPU only.
        Each adapter's product with A is saved too, and by DoRA its whole output and the frozen layer's: both are scaled."""
        adapted = [read for read in layer.reads if read.name in targets]
        frozen = layer.reads if self._saves_all() else ()
        products = self._item * sum(rank + self._dora * 2 * read.outputs for read in adapted)
        if dropout > 0:
            mask = 4 if self._device == "cpu" else 1
            return products + self._shared(frozen) + sum((self._item + mask) * read.inputs for read in adapted)
        if self._item < ADAPTER_BYTES and (self._device == "cpu" or not self._precision.quantized):
            return products + self._shared(frozen) + sum(self._item * read.inputs for read in adapted)
        return products + self._shared([*frozen, *adapted])

    def never_freed(self, layer: LayerFootprint) -> int:
        """What stays even where a layer is recomputed: bitsandbytes saves it where no checkpointing sees it."""
        return self._item * sum({read.source: read.inputs for read in layer.reads}.values()) if self._saves_all() else 0

    def weights(self, layer: LayerFootprint, targets: Collection[str], dropout: float) -> int:
        """Copies of frozen weights that DoRA saves, bytes: behind its dropout it multiplies with them anew, in the compute dtype.
        Weights in 32 bits are no copy there."""
        if not (self._dora and dropout) or (self._item == ADAPTER_BYTES and not self._precision.quantized):
            return 0
        return self._item * sum(read.inputs * read.outputs for read in layer.reads if read.name in targets)

    def passing(self, layer: LayerFootprint, targets: Collection[str]) -> int:
        """What one adapted layer's forward pass holds beside what it saves, the largest. DoRA multiplies B·A out with an identity
        matrix, (inputs, inputs), and holds this, the weights, their change, the scaled change and the sum at once."""
        if not self._dora:
            return 0
        adapted = [read for read in layer.reads if read.name in targets]
        identity = ((ADAPTER_BYTES + self._item) * read.inputs**2 + self._item * read.inputs * read.outputs for read in adapted)
        summed = (self._item * (read.inputs**2 + 4 * read.inputs * read.outputs) for read in adapted)
        return max((*identity, *summed), default=0)

    def _saves_all(self) -> bool:
        return self._precision.keeps_inputs and self._device == "cuda"

    def _shared(self, reads: Iterable[Read]) -> int:
        """Each tensor once, and none that is saved anyway."""
        return self._item * sum({read.source: read.inputs for read in reads if not read.saved}.values())
