"""Peak memory of training with the fused layers: the sizes of the tensors that `pipeline.training.fused` saves.

`tests/pipeline/planning/test_plan.py` holds it against measured peaks.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.base_model.families import family_of
from pipeline.base_model.precision import PRECISIONS, weight_bytes
from pipeline.base_model.shape import ModelShape, adapter_parameters, linear_layers
from pipeline.config.schema import PrecisionMode
from pipeline.planning.memory_plain import ADAPTER_BYTES, MemoryEstimate, with_context

ITEM = 2  # bfloat16
LOGIT_BYTES = 256 << 20
"""Bytes of logits held at once: `training.fused.decoder` cuts them to this."""


def estimate_fused(
    shape: ModelShape,
    *,
    precision_mode: PrecisionMode,
    rank: int,
    target_modules: Collection[str],
    tokens: int,
    recomputed_layers: int,
    keep_dequantized: bool,
    dropout: float = 0.0,
) -> MemoryEstimate:
    """The peak of one forward and backward pass over `tokens` tokens and the optimizer step after it, bytes.

    Args:
        rank: of LoRA.
        target_modules: names of linear layers that have an adapter.
        tokens: of the micro-batch, padding included.
        recomputed_layers: so many save their input only.
        keep_dequantized: the quantized weights are held in 16 bits too.
        dropout: share of the adapters' inputs.
    """
    trained = adapter_parameters(shape, rank, target_modules)
    layer, x = tokens * _saved_per_token(shape, rank, target_modules), tokens * shape.hidden * ITEM
    saved = recomputed_layers * x + (shape.layers - recomputed_layers) * layer
    logits_at_once = min(LOGIT_BYTES, tokens * shape.vocabulary * ITEM)
    logits = logits_at_once + 2 * x  # beside them the last layer's output and its norm's, (tokens, hidden)
    back = tokens * ITEM * _passing_per_token(shape, target_modules, dropout)
    if recomputed_layers:  # when the last of them runs again, all after it is freed, and its output is a third beside
        again = recomputed_layers * x + layer + back + x
        activations = max(saved + max(0, back - logits), again - logits)
    else:
        activations = saved + max(0, back - logits)
    weights = weight_bytes(shape, precision_mode, "bfloat16") + _dequantized_bytes(shape, precision_mode, keep_dequantized)
    parts = MemoryEstimate(
        weights=weights,
        adapter=(ADAPTER_BYTES + 2 * ITEM) * trained,  # with a copy in the compute type, and the newest gradients in it
        optimizer=4 * ADAPTER_BYTES * trained,  # gradients, AdamW's two moments, and the gradients before a micro-batch
        activations=activations,
        logits=logits,
        context=0,
    )
    # Measured: where a layer runs again, the block the logits were in is half full of holes; all of it, where the activated gate
    # has an adapter.
    holes = 0
    if recomputed_layers:
        holes = logits_at_once if _down(shape, target_modules) else min(logits_at_once // 2, layer)
    return with_context(parts, "cuda", holes)


def _saved_per_token(shape: ModelShape, rank: int, targets: Collection[str]) -> int:
    """Bytes of `training.fused.decoder_layer.SavedActivations`, a token: 2 a feature, 4 in `lse` and each `rstd`."""
    layer, (hidden, query, qkv, intermediate) = shape.described, _widths(shape)
    wide = (2 + layer.norms_behind) * hidden + qkv + query + 2 * intermediate
    return ITEM * (wide + rank * len(_adapted(shape, targets))) + 4 * (shape.heads + layer.norms_before + layer.norms_behind)


def _passing_per_token(shape: ModelShape, targets: Collection[str], dropout: float) -> int:
    """Features a token that pass through a layer's backward pass, at the widest of its stages."""
    layer, (hidden, query, qkv, intermediate) = shape.described, _widths(shape)
    adapted = _down(shape, targets) and dropout > 0
    behind = hidden if layer.norms_behind else 0  # the gradient for what a norm behind a block read
    mlp = 2 * hidden + behind + intermediate * (2 if adapted else 1)
    # Gradients for the layer's output, its middle, attention's output and input; normed heads are made again.
    attention = 2 * hidden + query + qkv + (qkv if layer.head_norms else 0)
    return max(mlp, attention)


def _widths(shape: ModelShape) -> tuple[int, int, int, int]:
    """Features of the residual stream, of all query heads, of these with keys and values, of gate or up."""
    widths = shape.widths
    return widths["hidden"], widths["query"], widths["query"] + 2 * widths["key"], widths["intermediate"]


def _down(shape: ModelShape, targets: Collection[str]) -> bool:
    """Whether what reads the activated gate has an adapter."""
    return bool({"down_proj", "output_linear"} & _adapted(shape, targets))


def _adapted(shape: ModelShape, targets: Collection[str]) -> set[str]:
    """Names of a layer's linear layers that have an adapter."""
    known = shape.architecture.target_names if shape.architecture else linear_layers(shape)
    return set(targets) & set(known)


def _dequantized_bytes(shape: ModelShape, mode: PrecisionMode, keep: bool) -> int:
    """Weights in 16 bits: all of them, or room for one of each shape; and scales in 32 bits that are held in fewer."""
    if not PRECISIONS[mode].quantized:
        return 0
    if keep:
        return ITEM * shape.linear_parameters
    side_by_side: dict[str, tuple[int, int]] = {}  # layers that read the same are one product
    layers = family_of(shape.model_type).layers
    for name, (inputs, outputs) in linear_layers(shape).items():
        _, before = side_by_side.get(layers[name].source, (inputs, 0))
        side_by_side[layers[name].source] = (inputs, before + outputs)
    rooms = ITEM * sum(inputs * outputs for inputs, outputs in set(side_by_side.values()))
    return rooms + int(shape.linear_parameters * PRECISIONS[mode].widened_scale_bytes)
