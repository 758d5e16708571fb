"""What a package's JSON files say, they say for readers of before and of now."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.export import portable
from tests.families import FAMILIES, config_of

_TODAYS_ADAPTER = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None,
    "base_model_name_or_path": "b", "bias": "none", "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
    "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "layer_replication":
    None, "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 32, "lora_bias": False,
    "lora_dropout": 0.0, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None, "peft_type":
    "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 16, "rank_pattern": {}, "revision": None,
    "target_modules": ["q_proj"], "target_parameters": None, "task_type": "CAUSAL_LM", "trainable_token_indices": None,
    "use_bdlora": None, "use_dora": False, "use_qalora": False, "use_rslora": False,
}  # fmt: skip
# The fields of `LoraConfig` in peft 0.11, which refuses every other.
_PEFT_0_11 = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout", "megatron_config",
    "megatron_core", "modules_to_save", "peft_type", "r", "rank_pattern", "revision", "target_modules", "task_type", "use_dora",
    "use_rslora",
}  # fmt: skip


def test_a_plain_adapter_says_what_it_is_in_the_settings_that_every_peft_has() -> None:
    found = portable.adapter_config(_TODAYS_ADAPTER)
    assert set(found) <= _PEFT_0_11 and None not in found.values()
    assert found == {name: value for name, value in _TODAYS_ADAPTER.items() if name in found}
    for name in ("r", "lora_alpha", "target_modules", "peft_type", "task_type", "base_model_name_or_path", "inference_mode"):
        assert name in found


@pytest.mark.parametrize(
    "asked",
    [
        {"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 8}}, {"target_parameters": ["mlp.experts"]},
        {"exclude_modules": "vision.*"}, {"lora_bias": True}, {"modules_to_save": ["lm_head"]}, {"init_lora_weights": "gaussian"},
    ],
)  # fmt: skip
def test_what_an_adapter_asks_for_is_never_left_out(asked: dict[str, Any]) -> None:
    assert asked.items() <= portable.adapter_config(_TODAYS_ADAPTER | asked).items()


def test_a_tokenizer_has_a_class_and_special_tokens_that_every_reader_has() -> None:
    saved = {
        "tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>", "<b>"], "additional_special_tokens": ["<b>"],
        "is_local": True, "eos_token": "</s>",
    }  # fmt: skip
    assert portable.tokenizer_config(saved) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<b>", "<a>"], "eos_token": "</s>",
    }  # fmt: skip
    named = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image_token": "<image>"}}
    assert portable.tokenizer_config(named) == named


_LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
_LONG = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0], "long_factor": [4.0]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {"rope_theta": 1e6}),
        (
            {"rope_parameters": _LLAMA_3},
            {"rope_theta": 500_000.0, "rope_scaling": {name: value for name, value in _LLAMA_3.items() if name != "rope_theta"}},
        ),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
        ),
        (
            {
                "model_type": "phi3", "original_max_position_embeddings": 4096,
                "rope_parameters": {**_LONG, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75},
            },
            {
                "rope_theta": 1e4, "partial_rotary_factor": 0.75,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [4.0]},
            },
        ),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            },
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}},
            {"rotary_emb_base": 1e4, "rotary_pct": 0.25},
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_rotary_settings_stand_where_transformers_4_looks_for_them(
    config: dict[str, Any], expected: dict[str, Any], nested: bool
) -> None:
    found = portable.model_config({"text_config": config} if nested else config)
    found = found["text_config"] if nested else found
    assert expected.items() <= found.items() and config.items() <= found.items()
    assert portable.model_config(found) == found, "once is enough"


def test_layers_of_one_base_have_it_at_the_top_level_and_a_kind_that_transformers_4_does_not_know_stays_nested() -> None:
    """OLMo 3's windows and whole layers turn at one speed; transformers 5 would take a `rope_scaling` in the place of both."""
    plain = {"rope_type": "default", "rope_theta": 5e5}
    found = portable.model_config(
        {"model_type": "olmo3", "rope_parameters": {"full_attention": plain, "sliding_attention": plain}}
    )
    assert found["rope_theta"] == 5e5 and "rope_scaling" not in found
    nested = {"full_attention": {"rope_type": "proportional", "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    assert "rope_scaling" not in portable.model_config({"model_type": "gemma4_text", "rope_parameters": nested})


def test_the_type_of_the_weights_has_both_names_and_an_old_config_stays_as_it_is() -> None:
    assert portable.model_config({"dtype": "bfloat16"}) == {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    old = {"torch_dtype": "float16", "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}}
    assert portable.model_config(old) == old | {"dtype": "float16"}


def _of_two_kinds(**scaled: Any) -> dict[str, Any]:
    """Rotary embeddings of a model with windows: those of its full layers are scaled."""
    full = {"rope_theta": 500_000.0, **scaled}
    return {"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}


_SCALED: list[tuple[str, dict[str, Any]]] = [
    ("gemma3-text", _of_two_kinds(rope_type="linear", factor=8.0)),
    ("olmo3", _of_two_kinds(rope_type="yarn", factor=8.0, original_max_position_embeddings=64)),
]


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in FAMILIES), *_SCALED])
def test_what_older_readers_need_changes_no_rotary_embedding_for_todays(name: str, changes: dict[str, Any]) -> None:
    config = config_of(name, **changes)
    again = type(config).from_dict(portable.model_config(config.to_dict()))
    wanted, found = (_without_old_names(getattr(each.get_text_config(), "rope_parameters", None)) for each in (config, again))
    assert found == wanted


def _without_old_names(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_old_names(each) for name, each in value.items() if name != "type"}
