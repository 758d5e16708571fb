"""An adapter on every family: where it lands, that it comes back, and that plain peft reads it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import BadInput
from pipeline.config.schema import LoraSection
from pipeline.modeling.adapter import add_adapter, load_adapter
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.modeling.load import load_base
from pipeline.system.gpu import cpu_device
from pipeline.training.checkpointing.contents import write_adapter
from tests import families


def base(folder: Path) -> Any:
    return load_base(base_model_at(folder), "lora_bf16", cpu_device(), compute_dtype="float32")


def logits(model: Any) -> Any:
    import torch

    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits.float()


def trained(folder: Path, lora: LoraSection) -> Any:
    """The base with an adapter that changes what it says."""
    import torch

    adapted = add_adapter(base(folder), lora, seed=1)
    draws = torch.Generator().manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05, generator=draws)
        elif "magnitude" in name:
            parameter.data *= 1.3
    return adapted


KINDS = {"plain": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}
CASES = [
    *(pytest.param(*each.values, {}, id=f"{each.id}", marks=each.marks) for each in families.names() if each.id != "mamba"),
    *(pytest.param(name, KINDS[kind], id=f"{name}-{kind}") for name in ("llama-2", "gpt2") for kind in ("rslora", "dora")),
    *(
        pytest.param(name, {"dora": True}, id=f"{name}-dora", marks=pytest.mark.matrix)
        for name in ("gemma3", "qwen3-moe", "lfm2")
    ),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_lands_in_the_language_model_alone_and_comes_back_here_and_in_plain_peft(
    name: str, kind: dict[str, Any], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = families.save(name, tmp_path / "base")
    facts = architecture_of(folder / "config.json", name)
    adapted = trained(folder, LoraSection(r=4, alpha=8, dropout=0.0, **kind))
    weights = {path: each for path, each in adapted.named_parameters() if each.requires_grad}
    assert all(each.dtype == torch.float32 for each in weights.values())
    assert not [path for path in weights if any(f".{tower}." in path for tower in facts.towers)]
    beside = sum(each.numel() for path, each in weights.items() if "magnitude" in path)
    assert sum(each.numel() for each in weights.values()) - beside == facts.adapter_parameters(4, facts.target_names)
    expected = logits(adapted)
    (tmp_path / "adapter").mkdir()
    write_adapter(adapted, tmp_path / "adapter")
    torch.testing.assert_close(logits(load_adapter(base(folder), tmp_path / "adapter")), expected)
    assert (logits(base(folder)) - expected).abs().max() > 0.1 * expected.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).float()  # as wide as it was trained
        plain = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    torch.testing.assert_close(logits(plain), expected, atol=0.02 * float(expected.std()), rtol=0)


@pytest.mark.parametrize(
    ("name", "modules", "message"),
    [
        ("gemma3", ["fc1"], r"no adapter can go on 'fc1' \(beside the language model\); the model has .*down_proj"),
        ("llama-2", ["c_attn"], "there is no linear layer 'c_attn'; the model has .*q_proj"),
        ("llama-2", ["lm_head"], r"no adapter can go on 'lm_head' \(the output head\)"),
        ("mamba", ["in_proj"], "MambaForCausalLM uses the weight of dt_proj outside of its layer"),
        ("bamba", ["out_proj"], r"no adapter can go on 'out_proj' \(not always called"),
    ],
)
def test_where_no_adapter_can_go_is_said_with_the_reason(name: str, modules: list[str], message: str, tmp_path: Path) -> None:
    folder = families.save(name, tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        add_adapter(base(folder), LoraSection(target_modules=tuple(modules)), 0)
    assert caught.value.hint in ("humigence config set train.lora.target_modules all-linear", "choose another base model")


def test_names_that_a_tower_has_too_mean_the_language_models(tmp_path: Path) -> None:
    folder = families.save("gemma3", tmp_path)
    adapted = add_adapter(base(folder), LoraSection(target_modules=("q_proj", "k_proj")), 0)
    layers = {path for path, each in adapted.named_parameters() if each.requires_grad}
    assert len(layers) == 4 * 2 * 2 and all("language_model" in path for path in layers)
