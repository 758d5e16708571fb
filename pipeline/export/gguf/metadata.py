"""What a GGUF file says of a model: its sizes, how it computes, where it comes from. Names as llama.cpp reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.gguf_families import GgufFamily
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput


def write_sizes(writer: Any, family: GgufFamily, config: Any) -> None:
    """Everything that llama.cpp computes with besides the tensors.

    Args:
        writer: a `gguf.GGUFWriter` of the family's architecture.
        config: transformers' config of the language model.
    """
    heads = config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context_length(family, config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _write_rotary(writer, config)
    if more := _MORE.get(family.architecture):
        more(writer, config)


def head_dim(config: Any) -> int:
    """Features of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def config_of(base: BaseModel) -> Any:
    """transformers' config of the language model of a Hugging Face folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(base.path), local_files_only=True, trust_remote_code=False).get_text_config()


def sizes_of_file(base: BaseModel) -> tuple[int, int]:
    """Decoder layers and features of a head of a GGUF base, by its header. Raises `BadInput` where that does not say it."""
    header = read_header(base.path)
    layers, heads, hidden = (header.number(key) for key in ("block_count", "attention.head_count", "embedding_length"))
    if not (layers and heads and hidden):
        raise BadInput(f"{base.path} does not say how many layers and heads it has", "choose another file")
    return layers, header.number("rope.dimension_count") or header.number("attention.key_length") or hidden // heads


def context_length(family: GgufFamily, config: Any) -> int:
    """Tokens: as many as the model was made for, and no more than its window where llama.cpp has none for the family."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    longest: int = config.max_position_embeddings
    return longest if family.windowed or not window else min(longest, window)


def rope_of(config: Any) -> dict[str, Any]:
    """The rotary embedding of the layers that see the whole text."""
    rope = config.rope_parameters or {}
    found: dict[str, Any] = rope.get("full_attention", rope)
    return found


def _write_rotary(writer: Any, config: Any) -> None:
    rope = rope_of(config)
    kind = rope.get("rope_type", "default")
    writer.add_rope_dimension_count(int(head_dim(config) * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR if kind == "linear" else gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        _write_yarn(writer, config, rope)


def _write_yarn(writer: Any, config: Any, rope: dict[str, Any]) -> None:
    """Peng et al. 2023. llama.cpp takes 32 and 1 for the ramp, and computes the temperature, where the file says nothing."""
    if rope.get("mscale") or rope.get("mscale_all_dim") or rope.get("truncate") is False:
        raise BadInput("its rotary embedding is a YaRN that llama.cpp has no settings for", "take gguf out of export.formats")
    writer.add_rope_scaling_orig_ctx_len(int(rope.get("original_max_position_embeddings") or config.max_position_embeddings))
    writer.add_rope_scaling_yarn_beta_fast(float(rope.get("beta_fast") or 32))
    writer.add_rope_scaling_yarn_beta_slow(float(rope.get("beta_slow") or 1))
    if (factor := rope.get("attention_factor")) is not None:
        # llama.cpp multiplies it with the temperature that it computes.
        writer.add_rope_scaling_yarn_attn_factor(float(factor) / (0.1 * math.log(rope["factor"]) + 1.0))


def _phi3(writer: Any, config: Any) -> None:
    rope = rope_of(config)
    longest, original = config.max_position_embeddings, rope.get("original_max_position_embeddings")
    original = original or getattr(config, "original_max_position_embeddings", None) or longest
    writer.add_rope_scaling_orig_ctx_len(int(original))
    window = getattr(config, "sliding_window", None)
    writer.add_sliding_window(0 if window is None or window >= longest else int(window))
    if rope.get("rope_type") == "longrope":
        scale = longest / original
        factor = rope.get("attention_factor")
        if factor is None:
            factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(float(factor))


def _granite(writer: Any, config: Any) -> None:
    writer.add_attention_scale(float(config.attention_multiplier))
    writer.add_embedding_scale(float(config.embedding_multiplier))
    writer.add_residual_scale(float(config.residual_multiplier))
    writer.add_logit_scale(float(config.logits_scaling))


def _gemma3(writer: Any, config: Any) -> None:
    if config.query_pre_attn_scalar != head_dim(config):
        raise BadInput("its attention is scaled as llama.cpp does not scale that of Gemma 3", "take gguf out of export.formats")
    writer.add_sliding_window(int(config.sliding_window))
    if local := (config.rope_parameters or {}).get("sliding_attention", {}).get("rope_theta"):
        writer.add_rope_freq_base_swa(float(local))


_MORE: dict[str, Callable[[Any, Any], None]] = {"phi3": _phi3, "granite": _granite, "gemma3": _gemma3}


# --------------------------------------------------------------------------------------- tensors that no file has


@dataclass(frozen=True)
class MadeTensor:
    """A tensor that llama.cpp keeps where transformers has settings, (numbers,) float32."""

    name: str
    values: NDArray[np.float32]


def made_tensors(config: Any) -> Iterator[MadeTensor]:
    """By which numbers the rotary frequencies are divided."""
    rope = rope_of(config)
    pairs = int(head_dim(config) * rope.get("partial_rotary_factor", 1.0)) // 2
    if rope.get("rope_type") == "llama3":
        yield MadeTensor("rope_freqs.weight", _llama3_divisors(rope, pairs))
    if rope.get("rope_type") == "longrope":
        for name, key in (("rope_factors_long.weight", "long_factor"), ("rope_factors_short.weight", "short_factor")):
            factors = np.asarray(rope[key], np.float32)
            if len(factors) != pairs:
                raise BadInput(f"config.json has {len(factors)} {key}s for {pairs} pairs of features", "humigence model check")
            yield MadeTensor(name, factors)


def _llama3_divisors(rope: dict[str, Any], pairs: int) -> NDArray[np.float32]:
    """Meta's `apply_scaling`: short waves by 1, long ones by the factor, those between by something between."""
    waves = 2 * np.pi * float(rope["rope_theta"]) ** (np.arange(pairs) / pairs)
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    smooth = np.clip((float(rope["original_max_position_embeddings"]) / waves - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - smooth) / float(rope["factor"]) + smooth)).astype(np.float32)
