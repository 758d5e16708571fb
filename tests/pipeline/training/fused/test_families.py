"""Each family whose layers can be described by their parts: fused as the model's own, loss and gradient, in 32 bits on the CPU.

Weights of norms are random, so that none can be left out unnoticed; documents are longer than the families' windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from pipeline.base_model.families import FAMILIES
from pipeline.base_model.shape import from_config
from pipeline.modeling.decoder_parts import NotDescribed, describe
from pipeline.modeling.inspect_architecture import inspected
from pipeline.modeling.rotary import rotate_by_own_length
from pipeline.planning.memory_fused import _saved_per_token
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.torch_ops import Dropout
from pipeline.training.fused.train_step import FusedStep, flatten_batch
from pipeline.training.loss import loss_sum
from tests import families
from tests.pipeline.training.fused.conftest import SameMask, fused, gradients, micro_batch

BATCH = ([5, 40, 1, 60], [22, 70])
STEP_TOKENS = 177
# Whose layers have other parts; any family that `tests.families` gains is to stand in one of the two.
OTHERS = {
    "qwen3-moe", "qwen3.5-text", "qwen3.5", "qwen3-next", "gemma2", "gemma4-text", "gemma4", "granite4-hybrid", "lfm2",
    "falcon-h1", "gpt-oss", "gpt-neox", "opt", "stablelm", "cohere2", "starcoder2", "gpt2", "bloom", "gpt-j", "gpt-neo",
    "codegen", "falcon", "falcon-alibi", "recurrent-gemma", "bamba", "mamba", "mixtral",
}  # fmt: skip
DESCRIBED = [name for name in families.FAMILIES if name not in OTHERS]
ALL_LINEAR = "all-linear"


def adapted(name: str, targets: Any = ALL_LINEAR, **settings: Any) -> Any:
    """A `PeftModel` of a family with random weights everywhere and an adapter that does something."""
    from peft import LoraConfig, get_peft_model

    model = families.build(name, std=0.15, attn_implementation="eager", **settings)
    for path, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.1 if path.endswith("bias") else 0.8, 0.3)
    model.requires_grad_(False)
    rotate_by_own_length(model)
    tower = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj" if hasattr(model.model, "language_model") else targets
    made = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=tower))
    for path, parameter in made.named_parameters():
        if "lora_B" in path:
            torch.nn.init.normal_(parameter, std=0.05)
    return made.train()


def own_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, torch.Tensor]:
    """The loss and its gradients, each document alone through the model's own layers; the model's gradients are none after it."""
    total = torch.zeros((), device=batch["input_ids"].device)
    for row in range(len(batch["input_ids"])):
        starts = [*torch.nonzero(batch["position_ids"][row] == 0).flatten().tolist(), batch["input_ids"].shape[1]]
        for start, end in pairwise(starts):
            ids, labels = (batch[name][row : row + 1, start:end] for name in ("input_ids", "labels"))
            total = total + loss_sum(model(input_ids=ids, use_cache=False).logits, labels)
    loss = total / STEP_TOKENS
    torch.autograd.backward(loss)
    found = gradients(model)
    model.zero_grad()
    return float(loss.detach()), found


def assert_same(model: Any, loss: float, wanted: tuple[float, torch.Tensor]) -> None:
    assert loss == pytest.approx(wanted[0], rel=1e-5)
    assert float((gradients(model) - wanted[1]).abs().max()) < 2e-5 * float(wanted[1].abs().max())


@pytest.mark.parametrize("name", DESCRIBED)
def test_loss_and_gradients_are_the_models_own(name: str) -> None:
    model, batch = adapted(name), micro_batch(*BATCH)
    wanted = own_gradients(model, batch)
    for recomputed in (0, 3):
        found = FusedStep(fused(model, recomputed_layers=recomputed), 0).loss(batch, STEP_TOKENS, recomputed)
        assert_same(model, float(found), wanted)
        model.zero_grad()
    assert FusedStep(fused(model), 0).loss_sum(batch) / STEP_TOKENS == pytest.approx(wanted[0], rel=1e-5)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_the_description_has_no_words_for_is_named(name: str) -> None:
    with torch.device("meta"), pytest.raises(NotDescribed, match=r"the fused ones (don't|know|have|are not written for)"):
        describe(families.on_meta(name))


WORDS = [
    ("llama-2", {"hidden_act": "gelu"}, "compute silu and gelu by tanh, not the model's"),
    ("llama-2", {"attention_dropout": 0.1}, "have no dropout in attention, the model has 0.1"),
    ("phi3", {"resid_pdrop": 0.2}, "have no dropout of the model's own"),
    ("gemma3-text", {"attn_logit_softcapping": 50.0}, "don't cap the scores"),
    ("gemma3-text", {"final_logit_softcapping": 30.0}, "don't cap the logits"),
]


@pytest.mark.parametrize(("name", "settings", "words"), WORDS, ids=[next(iter(each[1])) for each in WORDS])
def test_a_setting_that_the_description_has_no_words_for_is_named(name: str, settings: dict[str, Any], words: str) -> None:
    with torch.device("meta"), pytest.raises(NotDescribed, match=words):
        describe(families.on_meta(name, **settings))


def _another_scale_by_position(model: Any) -> None:
    model.config.rope_parameters = {**model.config.rope_parameters, "llama_4_scaling_beta": 0.1}


def _dropout_by_a_number(model: Any) -> None:
    model.model.layers[1].self_attn.residual_dropout = 0.1


def _a_window_of_full_attention(model: Any) -> None:
    model.config.layer_types = ["full_attention"] * len(model.model.layers)
    model.model.layers[1].self_attn.sliding_window = 8


@pytest.mark.parametrize("change", [_another_scale_by_position, _dropout_by_a_number, _a_window_of_full_attention])
def test_what_is_no_module_is_asked_about_too(change: Callable[[Any], None]) -> None:
    """Ministral 3 scales queries by their position, Seed-OSS drops by a number, EXAONE 4 has windows in some of its layers only:
    on loading, where the documents are short, nothing else would show it."""
    model = families.build("llama-3")
    describe(model)
    change(model)
    with pytest.raises(NotDescribed, match=r"llama_4_scaling_beta|residual_dropout|which window"):
        describe(model)


# A place of a layer whose input is dropped -> the linear layers there.
PLACES = (
    ("q_proj", "k_proj", "v_proj", "qkv_proj"), ("o_proj",), ("gate_proj", "up_proj", "gate_up_proj", "input_linear"),
    ("down_proj", "output_linear"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["olmo2", "gemma3-text", "phi4-mini"])
@pytest.mark.parametrize("recomputed", [0, 4])
def test_gradients_with_dropout_are_those_of_its_mask(name: str, recomputed: int) -> None:
    """Where norms stand elsewhere than Llama's, and where one layer computes what elsewhere two or three do."""
    model, batch, key = adapted(name), micro_batch([128]), torch.tensor([123_456_789_123_456_789])
    inner = fused(model, dropout=0.3, recomputed_layers=recomputed)
    for path, module in model.named_modules():
        place = next((number for number, names in enumerate(PLACES) if path.rpartition(".")[2] in names), None)
        if place is not None and hasattr(module, "lora_dropout"):
            number = int(path.partition("layers.")[2].partition(".")[0])
            module.lora_dropout["default"] = SameMask(Dropout(0.3, key, 4 * number + place))
    wanted = own_gradients(model, batch)
    inner.adapter.hand_out_gradients()
    found = inner.loss_and_gradients(flatten_batch(batch, torch.device("cpu")), torch.tensor([1 / STEP_TOKENS]), key)
    assert_same(model, float(found), wanted)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("olmo2", ["o_proj", "up_proj"]), ("gemma3-text", ["v_proj"]), ("phi4-mini", ["gate_up_proj"]),
        ("granite4", ["output_linear"]),
    ],
)  # fmt: skip
def test_an_adapter_on_some_layers_alone(name: str, targets: list[str]) -> None:
    model, batch = adapted(name, targets), micro_batch(*BATCH)
    wanted = own_gradients(model, batch)
    assert_same(model, float(FusedStep(fused(model), 0).loss(batch, STEP_TOKENS, 0)), wanted)


@pytest.mark.parametrize("name", ["smollm3", "qwen3", "phi4-mini", "granite4", "olmo2", "gemma3-text"])
def test_a_plan_counts_what_a_layer_saves_to_the_byte(name: str) -> None:
    """By what the model's class said of its parts, and where a row tells of its family, by that alone."""
    document, tokens = families.config_of(name).to_dict(), 128
    with torch.device("meta"):
        facts = inspected(families.on_meta(name))
    model = adapted(name).to(torch.bfloat16)
    inner = FusedModel(model, torch.bfloat16, recomputed_layers=0, keep_dequantized=False, dropout=0.0)
    inner.adapter.refresh()
    context = inner._context(flatten_batch(micro_batch([tokens]), torch.device("cpu")), None)
    _, saved = inner.layers[0].forward(torch.randn(tokens, 64, dtype=torch.bfloat16), context)
    taken = sum(each.nbytes for each in saved if each is not None)
    shape = from_config(document, name)
    by_family = [shape] if document["model_type"] in FAMILIES else []
    for known in (replace(shape, architecture=facts), *by_family):
        assert tokens * _saved_per_token(known, 4, facts.target_names) == taken


def test_what_was_learned_about_memory_recomputes_every_layer_of_a_model_with_images_too() -> None:
    from pipeline.config.schema import Config
    from pipeline.training import build
    from pipeline.training.memory_recovery.limits import Limits
    from tests.pipeline.training.tiny_training import MadeUpData, plan_for

    plan = plan_for(Config(), MadeUpData(), kernels="fused")
    step = build._fused(Config(), adapted("gemma3"), plan, Limits(checkpointing=True))
    assert step.model.are_recomputed()


def test_what_is_described_is_what_is_there() -> None:
    """Read off the module files of transformers, part by part."""
    smollm3 = describe(families.build("smollm3")).layers
    assert [layer.rotation for layer in smollm3] == ["", "", "", None]
    gemma = describe(families.build("gemma3-text")).layers
    assert [(layer.window, layer.rotation) for layer in gemma[:2]] == [(16, "sliding_attention"), (0, "full_attention")]
    assert gemma[0].before_mlp is not None and gemma[0].before_mlp.offset == 1 and gemma[0].activation == "gelu_tanh"
    assert all((gemma[0].before_attention, gemma[0].after_attention, gemma[0].after_mlp, gemma[0].query_norm))
    olmo = describe(families.build("olmo2")).layers[0]
    assert (olmo.before_attention, olmo.before_mlp) == (None, None) and olmo.after_attention and olmo.after_mlp
    assert olmo.query_norm is not None and olmo.query_norm.features == 64
    granite = describe(families.build("granite"))
    assert (granite.embedding_scale, granite.layers[0].scale, granite.layers[0].residual) == (12, 0.05, 0.22)
    assert granite.logit_scale == 1 / 8
    phi = describe(families.build("phi4-mini")).layers[0]
    assert [len(group) for group in phi.groups] == [1, 1, 1, 1] and (phi.heads, phi.key_heads, phi.head_dim) == (4, 2, 16)
    windows = [layer.window for layer in describe(families.build("qwen2-window")).layers]
    assert windows == [0, 0, families.WINDOW, families.WINDOW]
