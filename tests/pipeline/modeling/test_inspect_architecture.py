"""What is said of a model from its config alone is what the loaded model turns out to be."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model import architecture
from pipeline.base_model.architecture import Architecture
from pipeline.common.errors import BadInput
from pipeline.modeling import inspect_architecture
from pipeline.modeling.inspect_architecture import architecture_of
from tests import families


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def config_file(folder: Path, name: str, **changes: Any) -> Path:
    families.config_of(name, **changes).save_pretrained(folder)
    return folder / "config.json"


@lru_cache(maxsize=1)
def loaded(name: str) -> Any:
    """The model that transformers makes of what the family publishes, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(families.config_of(name), dtype=torch.float32).eval()


def numbered(path: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


@pytest.mark.parametrize("name", families.names())
def test_an_adapter_on_each_target_is_trained_by_plain_text_and_no_weight_is_miscounted(name: str, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    facts = architecture_of(config_file(tmp_path, name), name)
    model = loaded(name)
    assert facts.parameters == sum(each.numel() for each in model.parameters())
    assert facts.embedding_rows == facts.head_rows == families.VOCABULARY
    targets = [path for path, _ in model.named_modules() if numbered(path) in {each.path for each in facts.targets}]
    assert len(targets) == sum(each.count for each in facts.targets) > 0
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False, lora_dropout=0.0))
    trained = {path: each for path, each in adapted.named_parameters() if each.requires_grad}
    assert sum(each.numel() for each in trained.values()) == facts.adapter_parameters(2, facts.target_names)
    ids = torch.arange(3, 43)[None]
    adapted(input_ids=ids, use_cache=False).logits.float().square().sum().backward()
    asleep = [path for path, each in trained.items() if each.grad is None or not each.grad.abs().sum()]
    loaded.cache_clear()  # peft has changed it
    assert not asleep, "no text reaches these"


@pytest.mark.parametrize("name", families.names())
def test_what_bitsandbytes_quantizes_is_known_before(name: str, tmp_path: Path) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    facts = architecture_of(config_file(tmp_path / "config", name), name)
    folder = families.save(name, tmp_path / "model")
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=options, dtype=torch.bfloat16)
    quantized = [path for path, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert {numbered(path) for path in quantized} == {each.path for each in facts.linears if each.quantized}
    assert len(quantized) == sum(each.count for each in facts.linears if each.quantized)
    wide = sum(each.numel() for path, each in model.named_parameters() if numbered(path).startswith(_expert_paths(facts)))
    assert wide == facts.expert_parameters, "experts stay as wide as they are"


def _expert_paths(facts: Architecture) -> tuple[str, ...]:
    return tuple(each.path + "." for each in facts.experts)


@pytest.mark.parametrize("name", families.names())
def test_the_attention_that_is_chosen_can_be_loaded(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    facts = architecture_of(config_file(tmp_path, name), name)
    for attention in facts.attention:
        AutoModelForCausalLM.from_config(families.config_of(name), attn_implementation=attention)
    if facts.attention == ("eager",):
        with pytest.raises(ValueError, match="does not support"):
            AutoModelForCausalLM.from_config(families.config_of(name), attn_implementation="sdpa")


@pytest.mark.parametrize("name", families.names())
def test_a_token_beyond_every_window_is_seen_by_nobody(name: str, tmp_path: Path) -> None:
    """With windows in all layers of attention, what lies further back than all of them together changes nothing."""
    import torch

    facts = architecture_of(config_file(tmp_path, name), name)
    assert len(facts.layers) == 4
    reach = None if any(each.window is None for each in facts.layers) else sum((each.window or 1) - 1 for each in facts.layers)
    ids = torch.randint(3, 600, (1, 4 * families.WINDOW + 8), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[0, 0] += 7
    with torch.no_grad():
        one, two = (loaded(name)(input_ids=each, use_cache=False).logits[0, -1] for each in (ids, other))
    assert (reach is not None and reach < ids.shape[1] - 1) == bool(torch.equal(one, two))


@pytest.mark.parametrize(
    ("name", "towers"),
    [("gemma3", ("model.vision_tower", "model.multi_modal_projector")), ("gemma4", ("model.vision_tower", "model.embed_vision"))],
)
def test_no_adapter_goes_beside_the_language_model(name: str, towers: tuple[str, ...], tmp_path: Path) -> None:
    facts = architecture_of(config_file(tmp_path, name), name)
    assert facts.towers == towers and facts.language_model == "model.language_model"
    assert all(each.path.startswith("model.language_model.layers") for each in facts.targeted(["q_proj", "fc1"]))
    text = architecture_of(config_file(tmp_path / "text", f"{name}-text"), name)
    assert [(each.name, each.inputs, each.outputs, each.count) for each in facts.targets] == [
        (each.name, each.inputs, each.outputs, each.count) for each in text.targets
    ]
    assert facts.parameters - facts.tower_parameters == text.parameters


def test_a_router_is_no_target_however_its_size_is_called(tmp_path: Path) -> None:
    facts = architecture_of(config_file(tmp_path, "qwen3-next"), "x")
    unusable = {each.path: each.unusable for each in facts.linears}
    assert unusable["model.layers.*.mlp.shared_expert_gate"] == "a router" and unusable["lm_head"] == "the output head"
    # peft would put it on the experts, which are left alone.
    assert unusable["model.layers.*.mlp.shared_expert.up_proj"].startswith("peft puts an adapter of this name on the experts")
    # As many experts as the keys have features: no router all the same.
    facts = architecture_of(config_file(tmp_path / "2", "qwen3-moe", num_experts=32, num_local_experts=32), "x")
    assert "k_proj" in facts.target_names


# ------------------------------------------------------------------------------------------------- the cache


def test_it_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = config_file(tmp_path, "gemma3")
    first = architecture_of(source, "x")
    monkeypatch.setattr(inspect_architecture, "_meta_model", pytest.fail)
    assert architecture_of(source, "x") == first == architecture.read_architecture(source)
    assert Architecture.from_json(json.loads(json.dumps(first.to_json()))) == first


@pytest.mark.parametrize("spoil", ["", "[]", "{}", '{"model_type": 3}'])
def test_spoilt_facts_are_asked_again(spoil: str, tmp_path: Path, cache: Path) -> None:
    source = config_file(tmp_path, "llama-2")
    first = architecture_of(source, "x")
    (stored,) = cache.rglob("*.json")
    stored.write_text(spoil)
    assert architecture_of(source, "x") == first


def test_another_config_and_another_transformers_are_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = config_file(tmp_path, "llama-2")
    architecture_of(source, "x")
    assert architecture.read_architecture(config_file(tmp_path / "2", "llama-2", hidden_size=128)) is None
    monkeypatch.setattr(architecture.importlib.metadata, "version", lambda _: "9.9")
    assert architecture.read_architecture(source) is None


# ------------------------------------------------------------------------------------------------- refusals


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an architecture of tomorrow": (
        {"model_type": "llama9", "transformers_version": "6.1.0"},
        r"m: transformers \S+ does not know the architecture 'llama9'; the model was saved with transformers 6\.1\.0",
        "pip install -U transformers",
    ),
    "no word of its version": (
        {"model_type": "llama9", "transformers_version": None},
        "does not know the architecture 'llama9'\n",
        "pip",
    ),
    "quantized": ({"quantization_config": {"quant_method": "mxfp4"}}, "m is quantized already", "the model it was made from"),
    "an encoder with a decoder": ({"model_type": "t5", "architectures": None}, "an encoder with a decoder", "choose another"),
    "text with images only": (
        {"model_type": "idefics3"},
        "of idefics3 that continues a text alone, only together with images",
        "choose",
    ),
    "no language model": ({"model_type": "vit"}, "has no model of vit that continues a text\n", "choose another"),
    "sees what follows": ({"model_type": "bert"}, "bert: its attention sees what follows", "choose another"),
    "no such sizes": ({"num_attention_heads": 0}, "makes no model of its config", "humigence model check"),
    "no number": ({"hidden_size": "wide"}, "makes no model of its config", "humigence model check"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_from_the_config_alone(case: str, tmp_path: Path) -> None:
    changes, message, hint = REFUSED[case]
    source = config_file(tmp_path, "llama-2")
    document = json.loads(source.read_text()) | changes
    source.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    with pytest.raises(BadInput, match=message) as caught:
        architecture_of(source, "m")
    assert hint in caught.value.hint and "\n" not in caught.value.message
