"""Peak memory of QLoRA training by component: plain arithmetic, light enough for a form to ask at each key press.

The peak is at the loss or, with checkpointing, perhaps where one layer is computed again: everything that stands all the time,
plus the activations saved for the backward pass, plus the larger of those two. First-order numbers, from the shapes of what
autograd saves in transformers' Llama with peft's LoRA; `tests/pipeline/planning/test_memory.py` holds them to measured peaks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace

from pipeline.base_model.families import family_of
from pipeline.base_model.precision import DTYPE_BYTES, PRECISIONS, ComputeDtype, stream_bytes, weight_bytes
from pipeline.base_model.shape import ModelShape, adapter_parameters, linear_layers
from pipeline.config.schema import PrecisionMode

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
    device: str = "cuda",
    by_offsets: bool = False,
    trained_share: float = 1.0,
) -> MemoryEstimate:
    """The peak of one forward and backward pass over `rows` × `row_tokens` tokens and the optimizer step after it, bytes.

    Args:
        rank: of LoRA.
        target_modules: names of linear layers that have an adapter; those the model lacks are left out.
        rows, row_tokens: the micro-batch, padding included.
        checkpointing: all layers save their input only.
        dropout: share of the adapters' inputs.
        device: "cuda" or "cpu".
        by_offsets: attention is by the documents' offsets, without a mask.
        trained_share: of the tokens that have a label.
    """
    tokens = rows * row_tokens
    item = DTYPE_BYTES[compute_dtype]  # bytes a feature
    trained = adapter_parameters(shape, rank, target_modules)
    inputs = _Inputs(shape, precision_mode, item, device)
    per_token = _saved_per_token(shape, item, by_offsets) + inputs.saved(target_modules, dropout) + 2 * rank * len(target_modules)
    layer = tokens * per_token
    all_bytes, trained_bytes = _LOGIT_BYTES[compute_dtype]
    logits = round(tokens * (all_bytes + trained_bytes * trained_share) * shape.vocabulary)
    if checkpointing:
        saved = shape.layers * tokens * (shape.hidden * stream_bytes(compute_dtype) + inputs.never_freed())
        recomputed = max(0, layer - logits)  # one layer at a time, when the logits are gone
    else:
        saved, recomputed = shape.layers * layer, 0
    parts = MemoryEstimate(
        weights=weight_bytes(shape, precision_mode, compute_dtype) + _dequantized_bytes(shape, precision_mode, item),
        adapter=ADAPTER_BYTES * trained,
        optimizer=3 * ADAPTER_BYTES * trained,  # the gradient and AdamW's two moments
        activations=saved + recomputed + (0 if by_offsets else _mask_bytes(rows, row_tokens)),
        logits=logits,
        context=0,
    )
    return with_context(parts, device, min(_HOLES, parts.activations // 2) if checkpointing else 0)


def with_context(parts: MemoryEstimate, device: str, holes: int = 0) -> MemoryEstimate:
    """With what is held beside the tensors: by the process, and by torch in blocks larger than what is in them.

    Args:
        parts: `context` is replaced.
        device: "cuda" or "cpu"; without blocks on the CPU.
        holes: bytes between tensors that nothing fits into.
    """
    rounding = round((BLOCKS - 1) * parts.total) + holes if device == "cuda" else 0
    return replace(parts, context=CONTEXT_BYTES[device] + rounding)


def _dequantized_bytes(shape: ModelShape, precision_mode: PrecisionMode, item: int) -> int:
    """Bytes of the largest layer in the compute dtype, for the moment it is multiplied with."""
    if not PRECISIONS[precision_mode].quantized:
        return 0
    return item * max(inputs * outputs for inputs, outputs in linear_layers(shape).values())


def _saved_per_token(shape: ModelShape, item: int, by_offsets: bool) -> int:
    """Bytes a decoder layer without adapters saves for its backward pass, a token.

    Frozen linear layers save no input. What is saved: each norm's input in 32 bits and its reciprocal deviation; query, key and
    value, these repeated to all heads where a mask is used, the output of attention and the logarithm of its denominators; gate,
    activated gate and up.
    """
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * (4 * shape.hidden + 4)
    attention = item * 2 * (query + (key if by_offsets else query)) + 4 * shape.heads  # q and out; k and v; log-sum-exp
    return norms + attention + item * 3 * shape.intermediate


class _Inputs:
    """Inputs of a decoder layer's linear layers that are saved for its backward pass, bytes a token."""

    def __init__(self, shape: ModelShape, mode: PrecisionMode, item: int, device: str) -> None:
        self._precision, self._item, self._device = PRECISIONS[mode], item, device
        self._widths = {name: inputs for name, (inputs, _) in linear_layers(shape).items()}
        self._sources = {name: layer.source for name, layer in family_of(shape.model_type).layers.items()}
        self._attended = shape.heads * shape.head_dim  # features of the output of attention

    def saved(self, targets: Collection[str], dropout: float) -> int:
        """With dropout each adapter has an input of its own and a mask of a byte a feature. Without it they share what they read
        (the output of attention is saved anyway), unless peft casts it to the 32 bits of the adapter and autocast back: a copy
        each. It leaves that out for quantized layers where it sees autocast on, which it looks for on the GPU only."""
        adapted = [name for name in targets if name in self._widths]
        frozen = self._widths if self._saves_all() else []
        if dropout > 0:
            return self._shared(frozen) + sum((self._item + 1) * self._widths[name] for name in adapted)
        if self._item < ADAPTER_BYTES and (self._device == "cpu" or not self._precision.quantized):
            return self._shared(frozen) + sum(self._item * self._widths[name] for name in adapted)
        return self._shared([*frozen, *adapted])

    def never_freed(self) -> int:
        """What stays even where a layer is recomputed: bitsandbytes saves it where no checkpointing sees it."""
        return self._shared(self._widths) + self._item * self._attended if self._saves_all() else 0

    def _saves_all(self) -> bool:
        return self._precision.keeps_inputs and self._device == "cuda"

    def _shared(self, names: Iterable[str]) -> int:
        """Each input once, but the output of attention."""
        read = {self._sources[name]: self._widths[name] for name in names}
        read.pop("attention", None)
        return self._item * sum(read.values())


def _mask_bytes(rows: int, row_tokens: int) -> int:
    """The block-diagonal mask of packed rows under sdpa, (tokens, tokens) a row, boolean and in 16 bits, shared by the layers."""
    return 3 * rows * row_tokens * row_tokens
