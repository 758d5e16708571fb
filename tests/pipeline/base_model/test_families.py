"""One table of model families: what it says is what transformers and gguf say, and nothing else lists families."""

from __future__ import annotations

import ast
from pathlib import Path

import gguf
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from pipeline.base_model.families import FAMILIES, family_of
from pipeline.base_model.shape import from_config, linear_layers
from tests.processes import ROOT

# The config of a tiny model of any family; heads are wider than hidden / heads on purpose where the family allows it.
_CONFIG = {
    "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
# Curated models say which family they are of; a chat template is called Gemma's; older libraries call some settings otherwise;
# another program's templates have names; and what llama.cpp calls families and their tokenizers is a table of its own.
_MAY_NAME_ONE = {
    "families.py", "catalogue.py", "templates.py", "schema.py", "portable.py", "axolotl.py", "gguf_families.py",
    "gguf_vocabulary.py", "metadata.py",
}  # fmt: skip
EXACT = [name for name, family in FAMILIES.items() if not family.variants and name in CONFIG_MAPPING]


@pytest.mark.parametrize("model_type", EXACT)
def test_layers_are_called_and_sized_as_transformers_has_them(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type](**_CONFIG)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "layers.0." in name
    }
    assert linear_layers(from_config(config.to_dict(), "config.json")) == found


def test_what_is_written_here_is_written_for_families_that_are_compared_with_transformers() -> None:
    assert {name for name, family in FAMILIES.items() if family.fused or family.plain_attention} <= set(EXACT)


@pytest.mark.parametrize("model_type", [*EXACT, "gemma2"])
def test_layers_of_a_gguf_file_are_called_as_the_gguf_package_writes_them(model_type: str) -> None:
    named = {"mistral": "llama", "gemma3_text": "gemma3"}.get(model_type, model_type)
    architecture = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == named)
    names, family = gguf.get_tensor_name_map(architecture, 1), family_of(model_type)
    for name in family.layers:
        part = "self_attn" if name in family.attention_layers else "mlp"
        written = names.get_name(f"model.layers.0.{part}.{name}")
        assert written is not None and family.gguf_layers[written.split(".")[2]] == name


@pytest.mark.parametrize(
    ("model_type", "tied", "fused"),
    [
        ("llama", False, True), ("qwen3", False, True), ("llama4", False, False), ("mistral3", False, False),
        ("gemma", True, False), ("gemma3_text", True, True), ("cohere2", True, False), ("gpt_neox", True, False),
        ("homemade", False, False), ("", False, False),
    ],
)  # fmt: skip
def test_a_variant_shares_what_its_family_says_and_nothing_is_taken_for_proved(model_type: str, tied: bool, fused: bool) -> None:
    family = family_of(model_type)
    assert (family.tied_by_default, family.fused) == (tied, fused)
    assert family.model_type == model_type


def test_a_config_without_a_word_on_its_head_is_read_as_its_family_means_it() -> None:
    assert from_config({**_CONFIG, "model_type": "gemma3_text"}, "config.json").tied_embeddings
    assert not from_config({**_CONFIG, "model_type": "llama"}, "config.json").tied_embeddings
    older = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 128}
    shape = from_config(older, "config.json")
    assert (shape.hidden, shape.layers, shape.heads, shape.max_positions) == (32, 2, 4, 128)


def _names_a_family(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if text in FAMILIES]


def test_nothing_else_lists_families() -> None:
    files = [path for room in ("pipeline", "screens", "humigence_tui") for path in (ROOT / room).rglob("*.py")]
    named = {str(path.relative_to(ROOT)): names for path in files if (names := _names_a_family(path))}
    default = named.pop("pipeline/base_model/shape.py")
    assert default == ["llama"], "the default of a field"
    assert {Path(path).name for path in named} <= _MAY_NAME_ONE, named


def test_the_page_on_speed_names_the_families_with_layers_of_ours() -> None:
    titles = ", ".join(family.title for family in FAMILIES.values() if family.fused)
    assert f"({titles})" in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
