"""What the decoder layers of a family save for their backward pass, from its sizes alone.

For the families that `families.Family.norms` is written for, where a test holds it against what autograd saves. Of others it is
an estimate, until their layers have been measured.
"""

from __future__ import annotations

from pipeline.base_model.families import family_of
from pipeline.base_model.footprint import Footprint, Growth, LayerFootprint, Read
from pipeline.base_model.precision import DTYPE_BYTES, ComputeDtype, stream_bytes
from pipeline.base_model.shape import ModelShape, linear_layers


def formula_footprint(shape: ModelShape, compute_dtype: ComputeDtype, *, by_offsets: bool) -> Footprint:
    """The footprint of a model that is known by its shape.

    Args:
        by_offsets: attention is by the documents' offsets, without a mask.
    """
    item = DTYPE_BYTES[compute_dtype]
    # Of a mask, (tokens, tokens) a row: one of truth values, and each layer's own as numbers.
    saved = Growth(_saved_per_token(shape, item, by_offsets), 0 if by_offsets else item)
    layer = LayerFootprint(shape.layers, saved, Growth(shape.hidden * stream_bytes(compute_dtype)), _reads(shape))
    return Footprint((layer,), Growth(0, 0 if by_offsets else 1))


def _saved_per_token(shape: ModelShape, item: int, by_offsets: bool) -> float:
    """Bytes a decoder layer without adapters saves, a token.

    Frozen linear layers save no input. What is saved: each norm's input in 32 bits and its reciprocal deviation; query, key and
    value, these repeated to all heads where a mask is used, the output of attention and the logarithm of its denominators; gate,
    activated gate and up.
    """
    widths = shape.widths
    norms = sum(4 * widths[read] + 4 for read in family_of(shape.model_type).norms or ("hidden", "hidden"))
    pair = widths["key"] if by_offsets else widths["query"]
    attention = item * 2 * (widths["query"] + pair) + 4 * shape.heads  # q and out; k and v; log-sum-exp
    return norms + attention + item * 3 * _mlp_width(shape)


def _mlp_width(shape: ModelShape) -> float:
    """Features a token that the MLP, or the experts it passes through, make of it; the mean of all layers."""
    of_experts = shape.experts_per_token * shape.expert_width + shape.shared_width
    dense = shape.layers if shape.experts_beside_mlp else shape.layers - shape.expert_layers
    return (dense * shape.intermediate + shape.expert_layers * of_experts) / shape.layers


def _reads(shape: ModelShape) -> tuple[Read, ...]:
    sources = {name: layer.source for name, layer in family_of(shape.model_type).layers.items()}
    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources.values()))}
    return tuple(
        Read(name, inputs, outputs, numbers[sources[name]], sources[name] == "attention")
        for name, (inputs, outputs) in linear_layers(shape).items()
    )
