"""Peak memory of QLoRA training by component: plain arithmetic, light enough for a form to ask at each key press.

The peak is at the loss or, with checkpointing, perhaps where one layer is computed again: everything that stands all the time,
plus the activations kept for the backward pass, plus the larger of those two. First-order numbers, from the shapes of the tensors
that autograd keeps in transformers' Llama with peft's LoRA; `tests/pipeline/test_memory.py` holds them against measured peaks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.base_model.shape import ATTENTION, ModelShape, adapter_parameters, linear_layers
from pipeline.config import PrecisionMode

ComputeDtype = Literal["float32", "bfloat16", "float16"]
DTYPE_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

# NF4 with double quantization: 4 bits, an 8-bit scale for 64 weights, and a 32-bit scale for 256 of those
# (Dettmers et al. 2023, §3: 0.127 bits a weight on top of 4).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
ADAPTER_BYTES = 4  # peft keeps adapters in 32 bits
# What a process holds before the first tensor: the CUDA context with cuBLAS's workspaces; on the CPU, Python with torch,
# transformers and peft loaded.
CONTEXT_BYTES = {"cuda": 600 << 20, "cpu": 900 << 20}
# The loss in transformers: logits in the compute type, a 32-bit copy, its log-softmax, and the gradient in 32 bits while the copy
# is still there. In 16-bit compute the last two overlap with one more 16-bit tensor: 12 bytes a logit in both (measured: 12.1).
_LOGIT_BYTES = 12


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak. `optimizer` includes the adapter's gradients; `context` is outside of torch's own count."""

    weights: int
    adapter: int
    optimizer: int
    activations: int
    logits: int
    context: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    @property
    def torch_total(self) -> int:
        """What `torch.cuda.max_memory_allocated` would tell."""
        return self.total - self.context

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
) -> MemoryEstimate:
    """The peak of one forward and backward pass over `rows` × `row_tokens` tokens and the optimizer step after it.

    Args:
        rows, row_tokens: the micro-batch, padding included.
    """
    tokens = rows * row_tokens
    item = DTYPE_BYTES[compute_dtype]
    trained = adapter_parameters(shape, rank, target_modules)
    layer = tokens * _kept_per_token(shape, item, target_modules, dropout)
    logits = tokens * _LOGIT_BYTES * shape.vocabulary
    if checkpointing:
        kept = shape.layers * tokens * shape.hidden * item
        recomputed = max(0, layer - logits)  # one layer at a time, when the logits are gone
    else:
        kept, recomputed = shape.layers * layer, 0
    return MemoryEstimate(
        weights=weight_bytes(shape, precision_mode, compute_dtype) + _dequantized(shape, precision_mode, item),
        adapter=ADAPTER_BYTES * trained,
        optimizer=3 * ADAPTER_BYTES * trained,  # the gradient and AdamW's two moments
        activations=kept + recomputed + _mask_bytes(rows, row_tokens),
        logits=logits,
        context=CONTEXT_BYTES[device],
    )


def weight_bytes(shape: ModelShape, precision_mode: PrecisionMode, compute_dtype: ComputeDtype) -> int:
    """The frozen base. Embeddings, head and norms stay in the compute type whatever the mode."""
    rest = (shape.embedding_parameters + shape.norm_parameters) * DTYPE_BYTES[compute_dtype]
    if precision_mode == "qlora_nf4":
        return int(shape.linear_parameters * NF4_BYTES) + rest
    if precision_mode == "lora_int8":
        scales = 4 * shape.layers * sum(outputs for _, outputs in linear_layers(shape).values())
        return shape.linear_parameters + scales + rest
    return shape.parameters * 2


def _dequantized(shape: ModelShape, precision_mode: PrecisionMode, item: int) -> int:
    """The largest layer in the compute type, for the moment it is multiplied with."""
    if precision_mode not in ("qlora_nf4", "lora_int8"):
        return 0
    return item * max(inputs * outputs for inputs, outputs in linear_layers(shape).values())


def _kept_per_token(shape: ModelShape, item: int, targets: Collection[str], dropout: float) -> int:
    """Bytes a decoder layer keeps for its backward pass, a token.

    Frozen linear layers keep no input. What is kept: each norm's input (32 bits in transformers); query, key and value (repeated
    to all heads unless the kernel groups them) and the output of attention; gate, activated gate and up; the input of each
    LoRA layer, and with dropout its mask, one byte a feature.
    """
    query = shape.heads * shape.head_dim
    norms = 2 * shape.hidden * 4
    attention = item * 4 * query
    mlp = item * shape.intermediate * 3
    return norms + attention + mlp + _lora_inputs(shape, item, targets, dropout)


def _lora_inputs(shape: ModelShape, item: int, targets: Collection[str], dropout: float) -> int:
    sizes = linear_layers(shape)
    inputs = [(name, sizes[name][0]) for name in targets if name in sizes]
    if dropout > 0:  # each layer draws its own mask, so each keeps an input of its own
        return sum((item + 1) * width for _, width in inputs)
    shared = {("attention" if name in ATTENTION[:3] else name): width for name, width in inputs}
    return sum(item * width for width in shared.values())


def _mask_bytes(rows: int, row_tokens: int) -> int:
    """The block-diagonal mask of packed rows under sdpa: one boolean and one 16-bit matrix a row, shared by the layers."""
    return 3 * rows * row_tokens * row_tokens
