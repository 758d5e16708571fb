"""Mixtures of experts: what a config.json says of them against the model that transformers makes of it, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.base_model.precision import weight_bytes
from pipeline.base_model.shape import from_config, linear_layers
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.planning.micro_batch import memory_fault
from pipeline.planning.plan import make_plan
from pipeline.planning.planner import known_shape
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import GIB, Device
from tests import families
from tests.hub import use_hub_home

# As its config.json on the hub has it.
QWEN3_30B_A3B: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151_936,
    "num_experts": 128, "num_experts_per_tok": 8, "max_position_embeddings": 40_960, "tie_word_embeddings": False,
}  # fmt: skip
# Where transformers' own defaults are a whole model: another set of names for the same thing each.
BY_THEIR_DEFAULTS = (
    "mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3", "glm4_moe", "olmoe", "phimoe", "ernie4_5_moe", "llama4_text",
    "granitemoe", "granitemoeshared", "jamba", "minimax", "flex_olmo", "qwen3_next",
)  # fmt: skip


def made(config: Any) -> tuple[Any, int, int]:
    """The model on the meta device, all its weights, and those held as 3-D parameters."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = list(model.parameters())
    return model, sum(each.numel() for each in weights), sum(each.numel() for each in weights if each.dim() == 3)


@pytest.mark.parametrize(
    "model_type", ["qwen3_moe", *(pytest.param(name, marks=pytest.mark.matrix) for name in BY_THEIR_DEFAULTS)]
)
def test_experts_are_counted_from_the_config_alone(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    _, weights, in_experts = made(config)
    shape = from_config(config.to_dict(), "config.json")
    assert shape.expert_parameters == pytest.approx(in_experts, rel=0.01)
    assert shape.parameters == pytest.approx(weights, rel=0.05)


def test_a_model_without_experts_has_none_whatever_keys_its_config_has() -> None:
    dense = families.config_of("granite4").to_dict()
    assert dense["num_local_experts"] == 0
    assert from_config(dense, "config.json").expert_parameters == 0
    assert from_config(families.config_of("llama-2").to_dict(), "config.json").expert_layers == 0


def test_a_layer_with_experts_has_no_mlp_to_adapt() -> None:
    some = {**QWEN3_30B_A3B, "mlp_only_layers": [0, 1]}
    shape = from_config(some, "config.json")
    assert [shape.layers_with(name) for name in ("q_proj", "gate_proj")] == [48, 2]
    assert "gate_proj" in linear_layers(shape)
    assert list(linear_layers(from_config(QWEN3_30B_A3B, "config.json"))) == ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.mark.parametrize("mode", ["qlora_nf4", "lora_int8", "lora_bf16"])
def test_the_experts_of_a_mixture_take_16_bits_in_every_mode(mode: Any) -> None:
    shape = from_config(QWEN3_30B_A3B, "config.json")
    assert shape.parameters == pytest.approx(30.5e9, rel=0.01)
    assert weight_bytes(shape, mode, "bfloat16") > 54 * GIB


def test_a_mixture_that_does_not_fit_is_refused_before_it_is_here() -> None:
    shape, rows = from_config(QWEN3_30B_A3B, "config.json"), DataFigures(430, 1024, 1500, 430_000, 415_000, True)
    small, large = (Device("cuda", "NVIDIA Test", "GPU-1", 0, size * GIB, size * GIB, (9, 0)) for size in (24, 79))
    assert "weights 5" in str(memory_fault(Config(), shape, small))
    assert memory_fault(Config(), shape, large) is None
    with pytest.raises(EnvironmentFault, match="weights 5"):
        make_plan(Config(), shape, small, rows)
    assert make_plan(Config(), shape, large, rows).memory["weights"] > 54 * GIB


def test_what_was_found_by_the_sizes_of_a_dense_model_is_still_found_by_them() -> None:
    shape = from_config(families.config_of("llama-2").to_dict(), "config.json")
    assert set(shape.to_json()) == {
        "hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocabulary", "tied_embeddings", "max_positions",
        "model_type",
    }  # fmt: skip
    mixture = from_config(QWEN3_30B_A3B, "config.json")
    assert type(mixture).from_json(mixture.to_json()) == mixture


def test_a_config_that_came_before_its_weights_is_enough_for_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, tmp_path / "hf")
    snapshot = tmp_path / "hf" / "hub" / "models--Qwen--Qwen3-30B-A3B" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(QWEN3_30B_A3B))
    config = Config.model_validate({"model": {"repo": "Qwen/Qwen3-30B-A3B"}})
    assert known_shape(config, Workspace(tmp_path)) == from_config(QWEN3_30B_A3B, "config.json")
    (snapshot / "config.json").write_text("[]")
    with pytest.raises(BadInput, match=r"config\.json"):
        known_shape(config, Workspace(tmp_path))
