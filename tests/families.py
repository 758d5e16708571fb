"""Model families with tiny random weights, as transformers' own config and model classes make them.

One table for whoever asks "does this hold for every family": each entry is a config of a few layers in which whatever makes the
family special is there and small (a window shorter than a row, more than one expert, both kinds of a hybrid's layers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import tiny

VOCABULARY = 640  # of `tiny.save_tokenizer`
WINDOW = 16  # tokens; shorter than any document worth a test

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_local_experts": 4}
_HEAD = {"head_dim": 16}
_GEMMA = {**_HEAD, "query_pre_attn_scalar": 16}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8}
_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
_GPT2 = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256}
_GRANITE = {"embedding_multiplier": 12.0, "attention_multiplier": 0.05, "residual_multiplier": 0.22, "logits_scaling": 8.0}
_LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_SIGLIP = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
_WINDOWED_AND_NOT = ["sliding_attention", "full_attention"] * 2
_LONG_FACTORS = [1.0] * 8  # a number for each pair of a head's features


@dataclass(frozen=True)
class Made:
    """How to make a family's tiny model.

    Attributes:
        model_type: of its config.
        settings: of the (text) config, over the usual sizes.
        outer: of a multimodal model's config; its `text_config` is made of `settings`.
        representative: whether `make test` tries it; the others are the matrix.
    """

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    outer: dict[str, Any] = field(default_factory=dict)
    representative: bool = False


FAMILIES: dict[str, Made] = {
    "llama-2": Made("llama", representative=True),
    "llama-3": Made("llama", {"rope_parameters": _LLAMA3_ROPE, "tie_word_embeddings": True}),
    "mistral": Made("mistral", {"sliding_window": None}),
    "mistral-window": Made("mistral", {"sliding_window": WINDOW}, representative=True),
    "qwen2": Made("qwen2"),
    "qwen2-window": Made("qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}),
    "qwen3": Made("qwen3", _HEAD),
    "qwen3-moe": Made("qwen3_moe", _HEAD | _EXPERTS, representative=True),
    "qwen3.5-text": Made("qwen3_5_text", _HEAD | _DELTA),
    "qwen3.5": Made(
        "qwen3_5", _HEAD | _DELTA,
        {"vision_config": {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 64}},
    ),
    "qwen3-next": Made("qwen3_next", _HEAD | _DELTA | _EXPERTS | {"shared_expert_intermediate_size": 32}),
    "gemma": Made("gemma", _HEAD),
    "gemma2": Made("gemma2", _GEMMA | {"sliding_window": WINDOW}, representative=True),
    "gemma3-text": Made("gemma3_text", _GEMMA | {"sliding_window": WINDOW, "layer_types": _WINDOWED_AND_NOT}),
    "gemma3": Made(
        "gemma3", _GEMMA | {"sliding_window": WINDOW, "layer_types": _WINDOWED_AND_NOT},
        {
            "vision_config": _SIGLIP, "mm_tokens_per_image": 4, "boi_token_index": 630, "eoi_token_index": 631,
            "image_token_index": 632,
        },
        representative=True,
    ),
    "gemma4-text": Made(
        "gemma4_text",
        _HEAD | {"sliding_window": WINDOW, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
                 "num_kv_shared_layers": 2, "layer_types": _WINDOWED_AND_NOT, "global_head_dim": 32},
    ),
    "gemma4": Made(
        "gemma4",
        _HEAD | {"sliding_window": WINDOW, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
                 "num_kv_shared_layers": 2, "layer_types": _WINDOWED_AND_NOT, "global_head_dim": 32},
        {
            "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                              "num_key_value_heads": 2, "head_dim": 16},
            "audio_config": None, "image_token_id": 630, "video_token_id": 631, "boi_token_id": 632, "eoi_token_id": 633,
            "audio_token_id": 634, "boa_token_id": 635, "eoa_token_index": 636,
        },
    ),
    "phi3": Made("phi3", {"sliding_window": None}),
    "phi3-longrope": Made(
        "phi3",
        {
            "max_position_embeddings": 256, "original_max_position_embeddings": 64, "sliding_window": None,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": _LONG_FACTORS,
                "long_factor": [4.0] * 8, "original_max_position_embeddings": 64,
            },
        },
    ),
    "phi4-mini": Made("phi3", {"partial_rotary_factor": 0.75, "tie_word_embeddings": True, "sliding_window": None}),
    "smollm2": Made("llama", {"tie_word_embeddings": True}),
    "smollm3": Made("smollm3"),
    "granite4": Made(
        "granitemoehybrid",
        {"num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 96, "layer_types": ["attention"] * 4,
         **_GRANITE, **_MAMBA},
    ),
    "granite4-hybrid": Made(
        "granitemoehybrid",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 96,
         "layer_types": ["mamba", "attention"] * 2, **_GRANITE, **_MAMBA},
    ),
    "granite": Made("granite", _GRANITE),
    "lfm2": Made("lfm2", {"full_attn_idxs": [1, 3], "block_auto_adjust_ff_dim": False}, representative=True),
    "falcon-h1": Made(
        "falcon_h1",
        {**_HEAD, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1},
    ),
    "olmo2": Made("olmo2"),
    "olmo3": Made("olmo3", {"sliding_window": WINDOW}),
    "gpt-oss": Made("gpt_oss", _HEAD | _EXPERTS | {"sliding_window": WINDOW}),
    "gpt-neox": Made("gpt_neox"),
    "opt": Made("opt", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "stablelm": Made("stablelm"),
    "cohere2": Made("cohere2", _HEAD | {"sliding_window": WINDOW}),
    "starcoder2": Made("starcoder2", {"sliding_window": None}),
    "gpt2": Made("gpt2", _GPT2 | {"n_inner": 96}, representative=True),
    "bloom": Made("bloom", {"n_layer": 4, "n_head": 4}),
    "gpt-j": Made("gptj", _GPT2 | {"rotary_dim": 8}),
    "gpt-neo": Made(
        "gpt_neo",
        {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    ),
    "codegen": Made("codegen", _GPT2 | {"rotary_dim": 8}),
    "falcon": Made("falcon", {"alibi": False}),
    "falcon-alibi": Made("falcon", {"alibi": True}),
    "recurrent-gemma": Made("recurrent_gemma", _HEAD | {"lru_width": 64, "attention_window_size": WINDOW}),
    "bamba": Made("bamba", {**_MAMBA, "attn_layer_indices": [1, 3]}),
    "mamba": Made("mamba", {"state_size": 8}),
    "mixtral": Made("mixtral", {**_EXPERTS, "sliding_window": None}),
}  # fmt: skip


def config_of(name: str, **changes: Any) -> Any:
    """The config of a family's tiny model.

    Args:
        changes: settings of the text model over the family's own (`num_hidden_layers=2`, `hidden_size=512`).
    """
    from transformers import AutoConfig

    made = FAMILIES[name]
    settings = _SIZES | made.settings | changes
    if made.outer:
        return AutoConfig.for_model(made.model_type, **made.outer, text_config=settings)
    return AutoConfig.for_model(made.model_type, **settings)


def heads_of(name: str, features: int) -> dict[str, Any]:
    """Changes after which a family's attention has heads of so many features."""
    heads = _SIZES["hidden_size"] // features
    changes: dict[str, Any] = {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
    settings = FAMILIES[name].settings
    if "head_dim" in settings:
        changes["head_dim"] = features
    rope = settings.get("rope_parameters", {})
    factors = {key: value[:1] * (features // 2) for key, value in rope.items() if isinstance(value, list)}
    return changes | ({"rope_parameters": rope | factors} if factors else {})


def on_meta(name: str, **changes: Any) -> Any:
    """A family's tiny model without weights, where torch's default device is "meta"."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if FAMILIES[name].outer else AutoModelForCausalLM
    return auto.from_config(config_of(name, **changes))


def build(name: str, *, std: float = 0.08, seed: int = 0, attn_implementation: str | None = None, **changes: Any) -> Any:
    """A family's tiny model with random weights, 32 bits, in evaluation mode: what its checkpoint is saved from.

    Args:
        std: of the matrices; far from what training begins with, so that a wrong path moves the logits.
        attn_implementation: transformers' name of how it attends.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    made = FAMILIES[name]
    torch.manual_seed(seed)
    auto = AutoModelForImageTextToText if made.outer else AutoModelForCausalLM
    attends = {"attn_implementation": attn_implementation} if attn_implementation else {}
    model = auto.from_config(config_of(name, **changes), dtype=torch.float32, **attends)
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def save(name: str, folder: Path, *, template: str = tiny.CHATML, std: float = 0.08, seed: int = 0, **changes: Any) -> Path:
    """The model of `build` and a tokenizer, as a Hugging Face folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    tiny.save_tokenizer(folder, template=template, llama=False)
    build(name, std=std, seed=seed, **changes).save_pretrained(folder)
    return folder


def names() -> list[Any]:
    """Every family as a parameter of a test: representatives in `make test`, the others marked as the matrix."""
    return [
        pytest.param(name, id=name, marks=() if made.representative else pytest.mark.matrix) for name, made in FAMILIES.items()
    ]
