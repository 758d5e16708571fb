"""A GGUF file's metadata held against the config that transformers makes of it: each entry below the architecture's name says
what the model computes with, is taken over as it stands, changes nothing, or is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from pipeline.base_model.gguf_header import GgufHeader

# They say how a file was made or is best used, and change no number.
_INERT = frozenset({"context_length", "rope.scaling.finetuned", "tensor_data_layout"})
_SCALING_KINDS = {"none": "default"}


def unused_metadata(header: GgufHeader, config: Any) -> Iterator[str]:
    """Entries of a file that change the computation and are not in the config that transformers made of it, as `key = value`."""
    prefix = f"{header.architecture}."
    computed = _Computed(config, header)
    carried = carried_keys(header)
    for key, value in header.metadata.items():
        short = key.removeprefix(prefix)
        if not key.startswith(prefix) or short in _INERT:
            continue
        known = computed.of(short)
        if (known is None and short not in carried) or (known is not None and not known(value)):
            yield f"{key} = {value}"
    yield from (key for key in header.lengths if key.startswith(prefix) and key.removeprefix(prefix) not in carried)
    implied = None if f"{prefix}attention.scale" in header.metadata else _implied_scale(header)
    if implied is not None and not computed.is_scale(implied):
        yield f"the scale of attention, {implied:.5g}, which follows from {prefix}block_count and its sizes"


def _implied_scale(header: GgufHeader) -> float | None:
    """Of Gemma 2 and 3, whose files do not name it: by the size of a head, of the largest ones by the width over the heads.

    Source: llama.cpp, `f_attention_scale` of LLM_ARCH_GEMMA2 and LLM_ARCH_GEMMA3.
    """
    layers = {"gemma2": 46, "gemma3": 62}.get(header.architecture)
    hidden, heads, head = (header.number(key) for key in ("embedding_length", "attention.head_count", "attention.key_length"))
    if layers is None or not hidden or not heads:
        return None
    return float((hidden // heads if header.number("block_count") == layers else head or hidden // heads) ** -0.5)


class _Recording(dict[str, Any]):
    """A file's metadata that notes what is asked of it."""

    def __init__(self, known: dict[str, Any]) -> None:
        super().__init__(known)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def has_own_conversion(header: GgufHeader) -> bool:
    """Whether transformers makes this architecture's config with a function of its own, and not from its old table."""
    if find_spec("transformers.integrations.gguf") is None:
        return False
    from transformers.integrations import gguf

    return header.architecture in getattr(gguf, "GGUF_CONFIG_ARCHS", {})


def carried_keys(header: GgufHeader) -> set[str]:
    """Keys below the architecture's name of which transformers takes the value."""
    prefix = f"{header.architecture}."
    if has_own_conversion(header):
        from transformers.integrations.gguf import get_gguf_config

        # Lists are read by it, not by us; what it asks for does not depend on their numbers.
        lists = {key: [1] * length for key, length in header.lengths.items()}
        recording = _Recording(header.metadata | lists | {"tokenizer.ggml.tokens": 1})
        get_gguf_config(recording, tuple(header.tensors))
        return {key.removeprefix(prefix) for key in recording.asked if key.startswith(prefix)}
    named = header.architecture.replace("-", "_")
    tables = [GGUF_CONFIG_MAPPING.get(each, {}) for each in (header.architecture, named, named.replace("moe", "_moe"))]
    return {key for table in tables for key, setting in table.items() if setting is not None}


Check = Callable[[Any], bool]


class _Computed:
    """What the model of a config computes with, in a GGUF file's terms."""

    def __init__(self, config: Any, header: GgufHeader) -> None:
        self._config = config.get_text_config()
        rope = getattr(self._config, "rope_parameters", None) or {}
        self._rope = rope.get("full_attention", rope) or {}
        self._header = header

    def of(self, key: str) -> Check | None:
        """Whether a value of `key` is what is computed with; None for a key of which that isn't known."""
        if key.startswith("rope."):
            return self._rotary(key)
        if key == "attention.causal":
            return lambda value: value is True
        if key == "attention.sliding_window":
            return self._is_window
        if key == "attention.scale":
            return self.is_scale
        names = _SETTINGS.get(key)
        if names is None:
            return None
        found = next((value for name in names if (value := getattr(self._config, name, None)) is not None), _OFF.get(key))
        return lambda value: _same(value, found)

    @property
    def _head_dim(self) -> int:
        config = self._config
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    def _rotary(self, key: str) -> Check | None:
        scaled = self._rope.get("rope_type", "default") != "default"
        known: dict[str, Any] = {
            "rope.freq_base": self._rope.get("rope_theta"),
            "rope.dimension_count": int(self._head_dim * self._rope.get("partial_rotary_factor", 1.0)),
            "rope.scaling.factor": self._rope.get("factor", 1.0),
            "rope.scaling.attn_factor": self._rope.get("attention_factor", 1.0),
        }
        if key == "rope.scaling.type":
            return lambda value: _SCALING_KINDS.get(value, value) == self._rope.get("rope_type", "default")
        if key == "rope.scaling.original_context_length":
            # Without a scaling there is nothing it is used for.
            return lambda value: not scaled or value == self._rope.get("original_max_position_embeddings")
        return (lambda value: _same(value, known[key])) if key in known else None

    def _is_window(self, value: Any) -> bool:
        used = getattr(self._config, "use_sliding_window", True)
        window = getattr(self._config, "sliding_window", None) if used else None
        longest = self._header.number("context_length") or 0
        # A window that reaches over the longest text is none.
        return bool(value == (window or 0) or (not window and 0 < longest <= value))

    def is_scale(self, value: Any) -> bool:
        """Whether attention's products are multiplied by it."""
        query = getattr(self._config, "query_pre_attn_scalar", None) or self._head_dim
        return _same(value, float(getattr(self._config, "attention_multiplier", None) or query**-0.5))


# Key of a file, below its architecture's name -> what transformers' configs call it.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads", "num_attention_heads"),
    "attention.key_length": ("global_head_dim", "head_dim"),
    "attention.value_length": ("v_head_dim", "global_head_dim", "head_dim"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "layer_norm_epsilon", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling", "logit_scale"),
    "use_parallel_residual": ("use_parallel_residual",),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "expert_weights_scale": ("routed_scaling_factor",),
}
# What is computed where a config has no such setting.
_OFF: dict[str, Any] = {
    "attn_logit_softcapping": 0.0, "final_logit_softcapping": 0.0, "embedding_scale": 1.0, "residual_scale": 1.0,
    "logit_scale": 1.0, "expert_count": 0, "expert_used_count": 0, "expert_weights_norm": False, "expert_weights_scale": 1.0,
    "use_parallel_residual": False,
}  # fmt: skip


def _same(value: Any, found: Any) -> bool:
    if isinstance(value, float) and isinstance(found, (int, float)):
        return math.isclose(value, found, rel_tol=1e-5, abs_tol=1e-12)
    return bool(value == found)
