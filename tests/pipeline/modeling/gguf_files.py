"""GGUF files of the table's families, as llama.cpp's converter writes them: its names, its metadata, what it does to weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests import families
from tests.tiny import _interleaved

ARCHITECTURES = {
    "llama-2": "llama", "llama-3": "llama", "smollm2": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen3-moe": "qwen3moe", "gemma2": "gemma2", "gemma3-text": "gemma3", "stablelm": "stablelm", "starcoder2": "starcoder2",
}  # fmt: skip
# What a file of these has no entry for, or transformers no eye, is as in the models that were published.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 128},
    "qwen3-moe": {"head_dim": 128, "moe_intermediate_size": 768, "norm_topk_prob": True},
    "gemma2": {"head_dim": 256, "query_pre_attn_scalar": 256},
    "gemma3-text": {"head_dim": 256, "query_pre_attn_scalar": 256, "layer_types": None},
}


def build(name: str) -> Any:
    """The family's tiny model, as far as a GGUF file can say what it is."""
    return families.build(name, **_PUBLISHED.get(name, {}))


def save(name: str, model: Any, path: Path, also: Callable[[Any], object] = lambda _: None) -> Path:
    """The model of `build(name)` as a GGUF file in 32 bits.

    Args:
        also: gets the writer before the file is written, to add to it.
    """
    config, architecture = model.config, ARCHITECTURES[name]
    writer = gguf.GGUFWriter(path, architecture)
    _describe(writer, config, architecture)
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    tied = set(model.all_tied_weights_keys)
    for weight, tensor in model.state_dict().items():
        if weight not in tied:
            for called, array in _written(weight, tensor.float().numpy(), config, architecture, names):
                writer.add_tensor(called, np.ascontiguousarray(array))
    also(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: Any, config: Any, architecture: str) -> None:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_token_list([f"<{number}>" for number in range(config.vocab_size)])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", None) or config.norm_epsilon)
    if architecture in ("qwen3", "qwen3moe", "gemma2", "gemma3"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if architecture == "qwen3moe":
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_freqs(rope, head_dim))


def _written(weight: str, array: Any, config: Any, architecture: str, names: Any) -> list[tuple[str, Any]]:
    if architecture == "llama" and ("q_proj" in weight or "k_proj" in weight):
        array = _interleaved(array, config.num_attention_heads if "q_proj" in weight else config.num_key_value_heads)
    if architecture in ("gemma2", "gemma3") and "norm" in weight:
        array = array + 1
    if weight.endswith("experts.gate_up_proj"):
        block, half = weight.split(".")[2], array.shape[1] // 2
        return [(f"blk.{block}.ffn_gate_exps.weight", array[:, :half]), (f"blk.{block}.ffn_up_exps.weight", array[:, half:])]
    if weight.endswith("experts.down_proj"):
        return [(f"blk.{weight.split('.')[2]}.ffn_down_exps.weight", array)]
    called = names.get_name(weight, try_suffixes=(".weight", ".bias"))
    assert called is not None, weight
    return [(called, array)]


def rope_freqs(rope: dict[str, Any], head_dim: int) -> Any:
    """As `LlamaModel.generate_extra_tensors` of llama.cpp's converter computes them, in 32 bits."""
    found = []
    for number in range(0, head_dim, 2):
        frequency = np.float32(1.0) / np.float32(rope["rope_theta"]) ** (np.float32(number) / np.float32(head_dim))
        wave, original = 2 * math.pi / float(frequency), rope["original_max_position_embeddings"]
        low, high = original / rope["low_freq_factor"], original / rope["high_freq_factor"]
        if wave < high:
            found.append(1.0)
        elif wave > low:
            found.append(rope["factor"])
        else:
            smooth = (original / wave - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, dtype=np.float32)
