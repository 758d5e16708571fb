"""Base models that people fine-tune, each with what there is to know before anything is downloaded.

The list is a start, not a limit: any repository or local path goes. What a row says of sizes is the model's own config.json, as
far as a plan reads it; once the model is here, its files decide.

To add one: a row in `MODELS`. A test makes the model from the row, without weights, and counts its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.base_model.hub_cache import cached_snapshot
from pipeline.base_model.locate import problems_of
from pipeline.base_model.shape import ModelShape, from_config

HUB = "https://huggingface.co"
_OTHER_FILES_BYTES = 24 << 20  # the tokenizer, the largest here, with the small files


@dataclass(frozen=True)
class CuratedModel:
    """A base model with 16-bit safetensors and a chat template of its own.

    Attributes:
        family: what a person calls the line it belongs to.
        parameters: weights of the whole model; a head that is its embeddings counts once.
        licence: as the hub names it.
        what: what it is good for, in a few words: languages first.
        config: of its config.json what a plan reads.
        gated: its licence has to be accepted on the hub before a download. The hub's own answer decides.
        duplicate_head: its files hold the head although it is the embeddings.
    """

    repo: str
    family: str
    parameters: int
    licence: str
    what: str
    config: Mapping[str, Any]
    gated: bool = False
    duplicate_head: bool = False

    @property
    def name(self) -> str:
        """Without its owner."""
        return self.repo.rpartition("/")[2]

    @property
    def page(self) -> str:
        """Where its card and its licence are."""
        return f"{HUB}/{self.repo}"

    @cached_property
    def shape(self) -> ModelShape:
        return from_config(dict(self.config), self.repo)

    @property
    def context(self) -> int:
        """Tokens of the longest sequence it was made for."""
        return self.shape.max_positions

    @property
    def download_bytes(self) -> int:
        """About what a download fetches."""
        head = self.shape.vocabulary * self.shape.hidden if self.duplicate_head else 0
        return 2 * (self.parameters + head) + _OTHER_FILES_BYTES

    @property
    def downloaded(self) -> bool:
        """Whether the hub cache holds all of it."""
        folder = cached_snapshot(self.repo, None)
        return folder is not None and not problems_of(folder)


def _sizes(
    model_type: str, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int, context: int,
    *, tied: bool, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """The keys that every config.json has, by the names it has for them; `more` as they stand there."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        **more,
    }


def _windows(pattern: int, layers: int) -> list[str]:
    """Gemma 3's kinds of layers: each `pattern`-th sees everything, the others a window."""
    return ["sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(layers)]


def _attention_at(layers: int, at: tuple[int, ...], others: str, name: str = "full_attention") -> list[str]:
    """A hybrid's kinds of layers: attention at these, `others` elsewhere."""
    return [name if layer in at else others for layer in range(layers)]


_LFM2 = {
    "model_type": "lfm2", "num_hidden_layers": 16, "num_key_value_heads": 8, "vocab_size": 65_536,
    "max_position_embeddings": 128_000, "tie_word_embeddings": True, "conv_L_cache": 3, "conv_bias": False,
    "block_auto_adjust_ff_dim": False, "layer_types": _attention_at(16, (2, 5, 8, 10, 12, 14), "conv"),
}  # fmt: skip
_GRANITE_HYBRID = {
    "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2, "mamba_n_groups": 1,
    "layer_types": _attention_at(40, (5, 15, 25, 35), "mamba", "attention"),
}  # fmt: skip
_APACHE, _LLAMA32, _LLAMA31 = "Apache-2.0", "Llama 3.2 Community License", "Llama 3.1 Community License"

MODELS = (
    CuratedModel(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama", 1_100_048_384, _APACHE, "the default; English, short context",
        _sizes("llama", 2048, 5632, 22, 32, 4, 32_000, 2048, tied=False),
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM", 134_515_008, _APACHE, "English; the smallest, trains on a CPU",
        _sizes("llama", 576, 1536, 30, 9, 3, 49_152, 8192, tied=True),
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-360M-Instruct", "SmolLM", 361_821_120, _APACHE, "English; small",
        _sizes("llama", 960, 2560, 32, 15, 5, 49_152, 8192, tied=True),
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct", "SmolLM", 1_711_376_384, _APACHE, "English",
        _sizes("llama", 2048, 8192, 24, 32, 32, 49_152, 8192, tied=True),
    ),
    CuratedModel(
        "HuggingFaceTB/SmolLM3-3B", "SmolLM", 3_075_098_624, _APACHE, "six European languages; thinks where asked to",
        _sizes("smollm3", 2048, 11_008, 36, 16, 4, 128_256, 65_536, tied=True, no_rope_layer_interval=4),
    ),
    CuratedModel(
        "Qwen/Qwen2.5-0.5B-Instruct", "Qwen 2.5", 494_032_768, _APACHE, "many languages; small",
        _sizes("qwen2", 896, 4864, 24, 14, 2, 151_936, 32_768, tied=True),
    ),
    CuratedModel(
        "Qwen/Qwen2.5-1.5B-Instruct", "Qwen 2.5", 1_543_714_304, _APACHE, "many languages",
        _sizes("qwen2", 1536, 8960, 28, 12, 2, 151_936, 32_768, tied=True),
    ),
    CuratedModel(
        "Qwen/Qwen3-0.6B", "Qwen 3", 596_049_920, _APACHE, "over 100 languages; small, thinks where asked to",
        _sizes("qwen3", 1024, 3072, 28, 16, 8, 151_936, 40_960, tied=True, head_dim=128), duplicate_head=True,
    ),
    CuratedModel(
        "Qwen/Qwen3-1.7B", "Qwen 3", 1_720_574_976, _APACHE, "over 100 languages; thinks where asked to",
        _sizes("qwen3", 2048, 6144, 28, 16, 8, 151_936, 40_960, tied=True, head_dim=128), duplicate_head=True,
    ),
    CuratedModel(
        "Qwen/Qwen3-4B", "Qwen 3", 4_022_468_096, _APACHE, "over 100 languages; thinks where asked to",
        _sizes("qwen3", 2560, 9728, 36, 32, 8, 151_936, 40_960, tied=True, head_dim=128),
    ),
    CuratedModel(
        "Qwen/Qwen3-4B-Instruct-2507", "Qwen 3", 4_022_468_096, _APACHE, "over 100 languages; never thinks, long context",
        _sizes("qwen3", 2560, 9728, 36, 32, 8, 151_936, 262_144, tied=True, head_dim=128),
    ),
    CuratedModel(
        "Qwen/Qwen3-4B-Thinking-2507", "Qwen 3", 4_022_468_096, _APACHE, "over 100 languages; always thinks, long context",
        _sizes("qwen3", 2560, 9728, 36, 32, 8, 151_936, 262_144, tied=True, head_dim=128),
    ),
    CuratedModel(
        "Qwen/Qwen3-8B", "Qwen 3", 8_190_735_360, _APACHE, "over 100 languages; thinks where asked to",
        _sizes("qwen3", 4096, 12_288, 36, 32, 8, 151_936, 40_960, tied=False, head_dim=128),
    ),
    CuratedModel(
        "meta-llama/Llama-3.2-1B-Instruct", "Llama 3", 1_235_814_400, _LLAMA32, "eight languages",
        _sizes("llama", 2048, 8192, 16, 32, 8, 128_256, 131_072, tied=True), gated=True,
    ),
    CuratedModel(
        "meta-llama/Llama-3.2-3B-Instruct", "Llama 3", 3_212_749_824, _LLAMA32, "eight languages",
        _sizes("llama", 3072, 8192, 28, 24, 8, 128_256, 131_072, tied=True), gated=True,
    ),
    CuratedModel(
        "meta-llama/Llama-3.1-8B-Instruct", "Llama 3", 8_030_261_248, _LLAMA31, "eight languages",
        _sizes("llama", 4096, 14_336, 32, 32, 8, 128_256, 131_072, tied=False), gated=True,
    ),
    CuratedModel(
        "google/gemma-3-270m-it", "Gemma 3", 268_098_176, "Gemma", "made to be tuned for one narrow task",
        _sizes(
            "gemma3_text", 640, 2048, 18, 4, 1, 262_144, 32_768, tied=True, head_dim=256, sliding_window=512,
            layer_types=_windows(6, 18),
        ), gated=True,
    ),
    CuratedModel(
        "google/gemma-3-1b-it", "Gemma 3", 999_885_952, "Gemma", "English; text only",
        _sizes(
            "gemma3_text", 1152, 6912, 26, 4, 1, 262_144, 32_768, tied=True, head_dim=256, sliding_window=512,
            layer_types=_windows(6, 26),
        ), gated=True,
    ),
    CuratedModel(
        "google/gemma-3-4b-it", "Gemma 3", 4_300_079_472, "Gemma", "over 140 languages; its text is trained, its images are not",
        {
            "model_type": "gemma3",
            "text_config": _sizes(
                "gemma3_text", 2560, 10_240, 34, 8, 4, 262_208, 131_072, tied=True, head_dim=256, sliding_window=1024,
                layer_types=_windows(6, 34),
            ),
            "vision_config": {
                "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False,
            },
            "mm_tokens_per_image": 256,
        }, gated=True,
    ),
    CuratedModel(
        "microsoft/Phi-4-mini-instruct", "Phi", 3_836_021_760, "MIT", "two dozen languages; reasoning, code",
        _sizes(
            "phi3", 3072, 8192, 32, 24, 8, 200_064, 131_072, tied=True, sliding_window=262_144, partial_rotary_factor=0.75,
            pad_token_id=199_999,
        ),
    ),
    CuratedModel(
        "mistralai/Mistral-7B-Instruct-v0.3", "Mistral", 7_248_023_552, _APACHE, "English",
        _sizes("mistral", 4096, 14_336, 32, 32, 8, 32_768, 32_768, tied=False, sliding_window=None),
    ),
    CuratedModel(
        "ibm-granite/granite-4.0-micro", "Granite 4", 3_402_836_480, _APACHE, "twelve languages; tools, documents",
        _sizes(
            "granitemoehybrid", 2560, 8192, 40, 40, 8, 100_352, 131_072, tied=True, num_local_experts=0, num_experts_per_tok=0,
            shared_intermediate_size=8192, position_embedding_type="rope", layer_types=["attention"] * 40,
        ),
    ),
    CuratedModel(
        "ibm-granite/granite-4.0-h-micro", "Granite 4", 3_191_396_096, _APACHE, "twelve languages; hybrid, light on long text",
        _sizes(
            "granitemoehybrid", 2048, 8192, 40, 32, 8, 100_352, 131_072, tied=True, num_local_experts=0, num_experts_per_tok=0,
            shared_intermediate_size=8192, position_embedding_type="nope", mamba_n_heads=64, **_GRANITE_HYBRID,
        ),
    ),
    CuratedModel(
        "ibm-granite/granite-4.0-h-tiny", "Granite 4", 6_939_037_248, _APACHE, "twelve languages; hybrid with 64 experts",
        _sizes(
            "granitemoehybrid", 1536, 512, 40, 12, 4, 100_352, 131_072, tied=True, num_local_experts=64, num_experts_per_tok=6,
            shared_intermediate_size=1024, position_embedding_type="nope", mamba_n_heads=48, **_GRANITE_HYBRID,
        ),
    ),
    CuratedModel(
        "allenai/OLMo-2-0425-1B-Instruct", "OLMo 2", 1_484_916_736, _APACHE, "English; data and training open",
        _sizes("olmo2", 2048, 8192, 16, 16, 16, 100_352, 4096, tied=False),
    ),
    CuratedModel(
        "LiquidAI/LFM2-350M", "LFM 2", 354_483_968, "LFM Open License 1.0", "eight languages; small and fast",
        {**_LFM2, "hidden_size": 1024, "intermediate_size": 4608, "num_attention_heads": 16},
    ),
    CuratedModel(
        "LiquidAI/LFM2-700M", "LFM 2", 742_489_344, "LFM Open License 1.0", "eight languages; fast",
        {**_LFM2, "hidden_size": 1536, "intermediate_size": 6912, "num_attention_heads": 24},
    ),
    CuratedModel(
        "LiquidAI/LFM2-1.2B", "LFM 2", 1_170_340_608, "LFM Open License 1.0", "eight languages; fast",
        {**_LFM2, "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32},
    ),
)  # fmt: skip


def how_to_get_access(repo: str) -> str:
    """What a person does before a gated repository can be downloaded."""
    return f"accept its licence at {HUB}/{repo}, then hf auth login, or set HF_TOKEN"


def curated_model(repo: str) -> CuratedModel | None:
    """The entry of a repository (`owner/name`, in any case), or None where it is not curated."""
    return next((model for model in MODELS if model.repo.lower() == repo.lower()), None)
