"""The mixture of experts that a config.json describes: how many there are, how wide, and in which layers.

transformers holds the experts of a layer as two or three 3-D parameters, which bitsandbytes does not quantize: they stay in 16
bits whatever the precision mode, and they are most of such a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_COUNT = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")
_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")
_SHARED_WIDTH = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size")
_SHARED_COUNT = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_DENSE_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_EVERY = ("decoder_sparse_step", "expert_layer_period", "moe_layer_interval")  # where experts are in each n-th layer only
_LARGEST = 1 << 24  # of a number of features or experts: a larger one is damage or malice


@dataclass(frozen=True)
class Experts:
    """Of one model.

    Attributes:
        count: experts of a layer that has them; 0 for a model without.
        per_token: of them a token passes through.
        width: features inside an expert; `shared_width` of the MLP that every token passes beside them, 0 for none.
        layers: that have them.
        beside_mlp: they stand beside the layer's own MLP and not in its place.
    """

    count: int = 0
    per_token: int = 0
    width: int = 0
    shared_width: int = 0
    layers: int = 0
    beside_mlp: bool = False


def experts_of(config: Mapping[str, Any], layers: int) -> Experts:
    """What a (text) config says of experts.

    Args:
        layers: of the decoder.
    """
    count = _first(config, _COUNT)
    if not count or any(config.get(switch) is False for switch in ("enable_moe_block", "is_moe")):
        return Experts()
    width = _first(config, _WIDTH)
    shared = _first(config, _SHARED_WIDTH) or _first(config, _SHARED_COUNT) * width
    if str(config.get("model_type", "")).startswith("llama4"):
        shared = width  # each of its layers of experts has one more that every token passes, and no key for it
    beside = config.get("enable_moe_block") is True
    return Experts(count, _first(config, _PER_TOKEN) or 1, width, shared, _layers_with(config, layers), beside)


def _layers_with(config: Mapping[str, Any], layers: int) -> int:
    if isinstance(kinds := config.get("mlp_layer_types"), list):
        return sum(kind == "sparse" for kind in kinds)
    if isinstance(named := config.get("moe_layers"), list) and named:
        return min(layers, len(named))
    dense, every = min(layers, _first(config, _DENSE_FIRST)), max(1, _first(config, _EVERY))
    only_mlp = config.get("mlp_only_layers")
    return max(0, (layers - dense) // every - (len(only_mlp) if isinstance(only_mlp, list) else 0))


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of these keys that has a number; 0 where none has."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list) and value:  # one for each layer
            value = value[-1]
        if type(value) is int and 0 < value <= _LARGEST:
            return value
    return 0
