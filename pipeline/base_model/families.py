"""Model families: what the layers of a `model_type` are called, how wide they are, and what is written for them here.

To add one: a row in `_FAMILIES`. A `model_type` without a row is taken for a decoder with Llama's layer names of which nothing is
proved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

Width = Literal["hidden", "query", "key", "intermediate"]
Source = Literal["attention norm", "attention", "MLP norm", "activated gate"]
# The width of what a linear layer reads; of the keys there are as many as of the values.
SOURCE_WIDTH: dict[Source, Width] = {
    "attention norm": "hidden", "attention": "query", "MLP norm": "hidden", "activated gate": "intermediate",
}  # fmt: skip


@dataclass(frozen=True)
class Linear:
    """A linear layer of a decoder layer. `outputs` are the widths of what it computes, side by side."""

    source: Source
    outputs: tuple[Width, ...]


_LLAMA_LAYERS = {
    "q_proj": Linear("attention norm", ("query",)),
    "k_proj": Linear("attention norm", ("key",)),
    "v_proj": Linear("attention norm", ("key",)),
    "o_proj": Linear("attention", ("hidden",)),
    "gate_proj": Linear("MLP norm", ("intermediate",)),
    "up_proj": Linear("MLP norm", ("intermediate",)),
    "down_proj": Linear("activated gate", ("hidden",)),
}
_LLAMA_GGUF = {
    "attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj",
    "ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj",
}  # fmt: skip
_PHI_LAYERS = {
    "qkv_proj": Linear("attention norm", ("query", "key", "key")),
    "o_proj": Linear("attention", ("hidden",)),
    "gate_up_proj": Linear("MLP norm", ("intermediate", "intermediate")),
    "down_proj": Linear("activated gate", ("hidden",)),
}
_PHI_GGUF = {"attn_qkv": "qkv_proj", "attn_output": "o_proj", "ffn_up": "gate_up_proj", "ffn_down": "down_proj"}
# The names that architectures before Llama use in config.json.
_OLDER_KEYS = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head", "num_heads"),
    "intermediate_size": ("n_inner", "ffn_dim"),
    "max_position_embeddings": ("n_positions", "seq_length"),
}


@dataclass(frozen=True)
class Family:
    """Models of one architecture.

    Attributes:
        model_type: of config.json, or a GGUF file's `general.architecture`.
        title: what a person calls it.
        variants: every `model_type` that begins with this one and has no row of its own belongs here too.
        layers: linear layers of a decoder layer, by the name `train.lora.target_modules` uses.
        plain_attention: proved to be grouped heads under a causal mask, at most with a sliding window.
        fused: its layers are known to be described by their parts (`modeling.decoder_parts`), so that `pipeline.training.fused`
            has layers for them. Of a model whose class was asked, that says it.
        norms: what the norms of a decoder layer read; None where what its layers save is measured on its class, and what a
            formula says of them is an estimate.
        norms_behind: so many of them read what a block gives, the others what one reads.
        tied_by_default: its configs leave `tie_word_embeddings` out and mean yes.
        config_keys: key of config.json -> other names it may have there.
        gguf_layers: name of a layer in a GGUF file -> its name here.
    """

    model_type: str
    title: str = ""
    variants: bool = False
    layers: Mapping[str, Linear] = field(default_factory=lambda: _LLAMA_LAYERS)
    plain_attention: bool = False
    fused: bool = False
    norms: tuple[Width, ...] | None = None
    norms_behind: int = 0
    tied_by_default: bool = False
    config_keys: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _OLDER_KEYS)
    gguf_layers: Mapping[str, str] = field(default_factory=lambda: _LLAMA_GGUF)

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """Names of the layers around attention: what an adapter usually has."""
        return tuple(name for name, layer in self.layers.items() if layer.source in ("attention norm", "attention"))


_TWO: tuple[Width, ...] = ("hidden", "hidden")
_OF_HEADS: tuple[Width, ...] = ("query", "key")
_FAMILIES = (
    Family("llama", "Llama", plain_attention=True, fused=True, norms=_TWO),
    Family("mistral", "Mistral", plain_attention=True, fused=True, norms=_TWO),
    Family("qwen2", "Qwen 2", plain_attention=True, fused=True, norms=_TWO),
    Family("qwen3", "Qwen 3", plain_attention=True, fused=True, norms=_TWO + _OF_HEADS),
    Family("phi3", "Phi 3", layers=_PHI_LAYERS, gguf_layers=_PHI_GGUF, fused=True, norms=_TWO),
    Family("phi4", "Phi 4", layers=_PHI_LAYERS, gguf_layers=_PHI_GGUF, norms=_TWO),
    Family("smollm3", "SmolLM 3", fused=True, norms=_TWO),
    Family("granite", "Granite 3", fused=True, norms=_TWO),
    Family("olmo2", "OLMo 2", fused=True, norms=_TWO + _OF_HEADS, norms_behind=2),
    Family("gemma3_text", "Gemma 3", fused=True, tied_by_default=True, norms=_TWO + _TWO + _OF_HEADS, norms_behind=2),
    Family("gemma", "Gemma", variants=True, tied_by_default=True),
    Family("gpt2", "GPT-2", variants=True, tied_by_default=True),
    Family("gpt_neo", "GPT-Neo", variants=True, tied_by_default=True),
    Family("opt", "OPT", variants=True, tied_by_default=True),
    Family("bloom", "BLOOM", variants=True, tied_by_default=True),
    Family("falcon", "Falcon", variants=True, tied_by_default=True),
    Family("cohere", "Cohere", variants=True, tied_by_default=True),
)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _FAMILIES}


@lru_cache(maxsize=64)
def family_of(model_type: str) -> Family:
    """The family of a model, whatever its `model_type`; one without a row gets the defaults."""
    if family := FAMILIES.get(model_type):
        return family
    general = next((each for each in _FAMILIES if each.variants and model_type.startswith(each.model_type)), Family(""))
    return replace(general, model_type=model_type, title=general.title or model_type)


# Packed documents see each other in the layers of these: convolutions and recurrent states run on from one to the next, or
# attention adds distances that are counted through the whole row. Found by the proof that each training makes
# (`pipeline.training.proof`), which asks no name; from here a plan knows it before there are weights.
_PACKED_SEE_EACH_OTHER = frozenset(
    {
        "bamba", "bloom", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "lfm2_moe", "mamba", "mamba2",
        "mpt", "nemotron_h", "olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
        "recurrent_gemma", "zamba", "zamba2",
    }
)  # fmt: skip


def packed_see_each_other(config: Mapping[str, object]) -> bool:
    """Whether packed documents are known to see each other in a model of this config.json.

    A hybrid may be made of attention alone, and a model of attention alone may have its distances added (ALiBi).
    """
    types = config.get("layer_types")
    types = types if isinstance(types, list) and types else [""]
    only_attention = all(isinstance(each, str) and "attention" in each and "linear" not in each for each in types)
    return config.get("alibi") is True or (config.get("model_type") in _PACKED_SEE_EACH_OTHER and not only_attention)
