"""The proof at load, on every family: no conversation sees another, and the fused layers compute what the model's own do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base_model import locate
from pipeline.base_model.families import packed_see_each_other
from pipeline.common.errors import BadInput, Stopped
from pipeline.dataset.packing import pack
from pipeline.modeling import decoder_parts
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.modeling.load import load_base
from pipeline.planning.plan import Plan, read_plan
from pipeline.planning.proved import libraries
from pipeline.runs.events import LayersProved, MemoryRanOut, PlanMade, TrainStep
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import cpu_device
from pipeline.system.out_of_memory import OutOfMemory
from pipeline.training import proof
from pipeline.training.fused import proof as fused_proof
from pipeline.training.packed_rows import Document, EpochSampler
from tests import families
from tests.pipeline.training.shortage import ERRORS, once, shortage
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for, stop_at

OFF = {"eval__samples_per_eval": 0, "train__early_stopping__enabled": False, "train__lora__dropout": 0.0}


def trained(root: Path, model: Path, plan: dict[str, Any] | None = None, **changes: Any) -> TinyRun:
    """One optimizer step in 32 bits."""
    one_step = {"train__precision_mode": "lora_fp16", "train__max_steps": 1} | OFF
    config, data = config_for(model, **one_step | changes), MadeUpData(train=24, val=2)
    run = TinyRun(root, config)
    run.train(data, plan_for(config, data, **{"total_steps": 1} | (plan or {})))
    return run


def assert_as_alone(model: Path, run: TinyRun) -> None:
    """The first step's loss is that of its conversations alone, in 32 bits; a plan made anew computes as this CPU does best."""
    rounding = {"float32": 1e-3, "bfloat16": 1e-2}[read_plan(run.folder.plan).compute_dtype]
    assert run.of(TrainStep)[0].loss == pytest.approx(loss_alone(model, run), rel=rounding)


def loss_alone(model: Path, run: TinyRun) -> float:
    """The mean loss of the first step's documents, one by one, as whoever uses the model calls it."""
    plan, data = read_plan(run.folder.plan), MadeUpData(train=24, val=2)
    base = locate.require_base_model(run.config, Workspace(run.folder.path))
    bare = load_base(base, run.config.train.precision_mode, cpu_device(), compute_dtype="float32").eval()
    rows = pack(data.lengths("train"), plan.row_tokens, plan.packs(run.config))
    sampler = EpochSampler(len(rows), run.config.seed)
    sampler.set_epoch(0)
    total, count = 0.0, 0
    for row in list(sampler)[: plan.micro_batch * plan.accumulation]:
        for document in rows[row].tolist():
            found = data.dataset("train")[document]
            labels = torch.tensor(found["labels"][1:])
            with torch.no_grad():
                logits = bare(input_ids=torch.tensor([found["input_ids"]]), use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100))
            count += int((labels != -100).sum())
    return total / count


def an_adapted_layer(model: Path) -> list[str]:
    facts = architecture_of(model / "config.json", "tiny")
    names = facts.target_names
    if "sdpa" not in facts.attention or "c_attn" in names or facts.model_type == "gemma4":
        pytest.skip("not loaded here yet")
    return [next((name for name in ("q_proj", "qkv_proj", "c_attn", "query_key_value") if name in names), names[0])]


def without_dropout(model: Path) -> Path:
    """The base's own, which no setting here turns off and with which no two steps are alike."""
    document = json.loads((model / "config.json").read_text())
    quiet = {name: 0.0 if "drop" in name and isinstance(value, float) else value for name, value in document.items()}
    (model / "config.json").write_text(json.dumps(quiet))
    return model


@pytest.mark.parametrize("family", families.names())
def test_no_conversation_sees_another_or_packing_is_off_and_says_why(tmp_path: Path, family: str) -> None:
    """Whatever the family: the first step's loss is that of its conversations alone."""
    model = without_dropout(families.save(family, tmp_path / "model", std=0.15))
    # Falcon's linear layers, a class of their own, compute in the type of their weights alone.
    mode = {"train__precision_mode": "qlora_nf4"} if family in ("falcon", "falcon-alibi") else {}
    run = trained(tmp_path, model, train__lora__target_modules=an_adapted_layer(model), **mode)
    (proved,) = run.of(LayersProved)
    assert proved.isolated
    assert (proved.how == "rows") == ("packing is off: packed conversations see each other" in proved.reason)
    assert_as_alone(model, run)
    # What a plan knows before there are weights is what the proof finds.
    document = json.loads((model / "config.json").read_text())
    assert packed_see_each_other(document | document.get("text_config", {})) == (proved.how == "rows")


def test_a_leak_that_no_list_knows_of_turns_packing_off_and_the_plan_follows(tmp_path: Path) -> None:
    model = families.save("lfm2", tmp_path / "model", std=0.15)
    run = trained(tmp_path, model, train__lora__target_modules=["q_proj"])  # the plan is one that packs
    plan, documents = read_plan(run.folder.plan), MadeUpData(train=24)
    assert plan.isolation == "rows" and plan.rows_per_epoch == len(documents.lengths("train"))
    assert run.of(PlanMade)[-1].total_steps == plan.total_steps
    (proved,) = run.of(LayersProved)
    assert proved.how == "rows" and proved.isolated and "their logits differ by" in proved.reason
    assert plan.proved["reason"] == proved.reason


@contextmanager
def convolutions_that_take_indices() -> Iterator[None]:
    """LFM2's convolution as the library causal-conv1d computes it: within the documents that `seq_idx` numbers."""
    from transformers.models.lfm2 import modeling_lfm2

    def causal(x: torch.Tensor, weight: torch.Tensor, bias: Any = None, seq_idx: Any = None, **_: Any) -> torch.Tensor:
        taps, tokens = weight.shape[1], x.shape[-1]
        summed = torch.zeros_like(x)
        for back in range(taps):
            shifted = torch.nn.functional.pad(x, (back, 0))[..., :tokens]
            if seq_idx is not None:
                same = torch.nn.functional.pad(seq_idx, (back, 0), value=-1)[..., :tokens] == seq_idx
                shifted = shifted * same[:, None]
            summed = summed + shifted * weight[:, taps - 1 - back, None]
        return summed if bias is None else summed + bias[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_lfm2, "causal_conv1d_fn", causal)
        yield


def test_documents_are_kept_apart_by_their_numbers_where_the_layers_take_them(tmp_path: Path) -> None:
    model = families.save("lfm2", tmp_path / "model", std=0.15)
    with convolutions_that_take_indices():
        run = trained(tmp_path, model, train__lora__target_modules=["q_proj"])
        (proved,) = run.of(LayersProved)
        assert (proved.how, proved.isolated, proved.reason) == ("indices", True, "")
        assert read_plan(run.folder.plan).isolation == "indices"
        assert_as_alone(model, run)


@pytest.mark.parametrize("mixed", [0.0, 0.1], ids=["rounding", "mixed"])
def test_in_16_bits_rounding_is_told_from_rows_that_see_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: float
) -> None:
    """However little rounding is allowed for: what it makes of this model is asked of it."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    forward = LlamaDecoderLayer.forward

    def layer(self: Any, hidden_states: torch.Tensor, **more: Any) -> Any:
        found = forward(self, hidden_states, **more)
        return found + mixed * found.mean(0, keepdim=True) if mixed else found

    monkeypatch.setattr(LlamaDecoderLayer, "forward", layer)
    monkeypatch.setitem(proof._ROUNDING, "bfloat16", 1e-6)
    model = families.save("llama-2", tmp_path / "model", std=0.15)
    plan = {"isolation": "rows", "compute_dtype": "bfloat16"}
    run = trained(tmp_path, model, plan, train__precision_mode="lora_bf16", data__packing=False)
    (proved,) = run.of(LayersProved)
    assert (proved.how, proved.isolated) == ("rows", not mixed) and proved.isolation_difference > 1e-4
    assert proved.reason == ("rows of a micro-batch are not independent of each other" if mixed else "")


# ------------------------------------------------------------------------------------------- fused as the model's own


def changed(family: str, matrix: bool = False, **settings: Any) -> Any:
    """A family whose config says something that the fused layers don't compute."""
    return pytest.param(family, settings, id="-".join([family, *settings]), marks=pytest.mark.matrix if matrix else ())


NOT_DESCRIBED = [
    changed("llama-2", hidden_act="gelu"),
    changed("llama-2", matrix=True, attention_dropout=0.1),
    changed("gemma2", matrix=True),
]


def misread(part: str) -> Any:
    """What reads a model's parts, blind to one of them."""

    def described(causal: Any) -> Any:
        parts = decoder_parts.describe(causal)
        blind = {"window": 0} if part == "window" else {"query_norm": None, "key_norm": None}
        return replace(parts, layers=tuple(replace(layer, **blind) for layer in parts.layers))

    return described


@pytest.mark.parametrize(
    ("family", "part"),
    [("mistral-window", "window"), pytest.param("qwen3", "norms", marks=pytest.mark.matrix)],
)
def test_layers_that_were_misread_are_found_out_and_the_models_own_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, part: str
) -> None:
    """A window that ends inside the run's longest conversations alone shows in loss and gradient."""
    monkeypatch.setattr("pipeline.training.fused.decoder.describe", misread(part))
    model = families.save(family, tmp_path / "model", std=0.15)
    run = trained(tmp_path, model, {"kernels": "fused"}, train__precision_mode="qlora_nf4")
    (proved,) = run.of(LayersProved)
    assert proved.isolated and "the fused ones compute something else than this model's own" in proved.reason
    assert proved.reason.count("differs by 0 %") == 0
    assert read_plan(run.folder.plan).kernels == "plain"
    assert_as_alone(model, run)


@pytest.mark.parametrize("right", [True, pytest.param(False, marks=pytest.mark.matrix)])
def test_in_16_bits_they_may_differ_as_a_rounding_of_the_embeddings_makes_the_models_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    """A model that makes much of little is not refused for it; one that was misread still is."""
    monkeypatch.setattr(fused_proof, "_FUSED_ROUNDING", {"bfloat16": (1e-2, 1e-4)})  # so that the rounding is asked
    if not right:
        monkeypatch.setattr("pipeline.training.fused.decoder.describe", misread("norms"))
    model = families.save("qwen3", tmp_path / "model", std=0.15)
    plan = {"kernels": "fused", "compute_dtype": "bfloat16"}
    run = trained(tmp_path, model, plan, train__precision_mode="lora_bf16")
    assert read_plan(run.folder.plan).kernels == ("fused" if right else "plain")


@pytest.mark.parametrize(("family", "settings"), NOT_DESCRIBED)
def test_where_the_fused_layers_are_not_written_for_it_the_models_own_train(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    model = families.save(family, tmp_path / "model", std=0.15, **settings)
    run = trained(tmp_path, model, {"kernels": "fused"}, train__precision_mode="qlora_nf4")
    (proved,) = run.of(LayersProved)
    assert proved.isolated and "the model's own layers are trained: the" in proved.reason
    assert read_plan(run.folder.plan).kernels == "plain"
    if "attention_dropout" not in settings:  # with it no two steps are alike
        assert_as_alone(model, run)


FUSED = [
    "llama-2", "llama-3", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen3", "smollm2", "smollm3", "phi3",
    "phi3-longrope", "phi4-mini", "granite", "granite4", "olmo2", "olmo3", "gemma", "gemma3-text", "gemma3",
]  # fmt: skip
IN_MAKE_TEST = [("gemma3-text", "float32"), ("mistral", "bfloat16")]


@pytest.mark.parametrize(
    ("family", "compute"),
    [
        pytest.param(family, compute, marks=() if (family, compute) in IN_MAKE_TEST else pytest.mark.matrix)
        for family in FUSED
        for compute in ("float32", "bfloat16")
    ],
)
def test_fused_layers_that_compute_the_same_are_trained(tmp_path: Path, family: str, compute: str) -> None:
    model = families.save(family, tmp_path / "model", std=0.15)
    mode = {"train__precision_mode": "qlora_nf4" if compute == "float32" else "lora_bf16"}
    run = trained(tmp_path, model, {"kernels": "fused", "compute_dtype": compute}, **mode)
    (proved,) = run.of(LayersProved)
    assert proved.fused and proved.isolated and not proved.reason
    assert proved.fused_difference is not None and proved.fused_difference < (1e-4 if compute == "float32" else 0.1)


def test_fused_layers_that_were_set_by_hand_and_do_not_hold_are_refused(tmp_path: Path) -> None:
    model = families.save("llama-2", tmp_path / "model", hidden_act="gelu")
    with pytest.raises(BadInput, match=r"train\.kernels: the fused ones do not work here: the fused ones compute silu") as e:
        trained(tmp_path, model, {"kernels": "fused"}, train__kernels="fused")
    assert e.value.hint == "humigence config set train.kernels auto"


# ------------------------------------------------------------------------------------------------- and nothing else


@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_the_proof_leaves_no_trace_in_what_is_trained(tmp_path: Path, tiny_model: Path, kernels: str) -> None:
    """With dropout, whose draws would be others: the same run with and without its proof, to the bit."""
    plan = {"kernels": kernels, "total_steps": 3}
    changes = {"train__lora__dropout": 0.3, "train__precision_mode": "qlora_nf4"}
    proved = trained(tmp_path / "proved", tiny_model, plan, **changes)
    already = {"proved": {"libraries": libraries()}, "isolation": "positions"}
    unproved = trained(tmp_path / "unproved", tiny_model, plan | already, **changes)
    assert not unproved.of(LayersProved) and proved.of(LayersProved)
    assert [step.loss for step in proved.of(TrainStep)] == [step.loss for step in unproved.of(TrainStep)]
    assert [step.grad_norm for step in proved.of(TrainStep)] == [step.grad_norm for step in unproved.of(TrainStep)]


def test_memory_that_runs_out_in_the_proof_is_tried_again_and_then_named(tmp_path: Path, tiny_model: Path) -> None:
    with shortage(once("forward", 1, ERRORS[0])) as happened:
        run = trained(tmp_path / "once", tiny_model)
    assert happened == ["forward"] and run.of(LayersProved) and not run.of(MemoryRanOut)
    with (
        shortage(lambda *_: ERRORS[0]()),
        pytest.raises(OutOfMemory, match="a pass of a few dozen tokens finds") as caught,
    ):
        trained(tmp_path / "never", tiny_model)
    assert "humigence config set" in caught.value.hint


def test_a_resumed_run_has_the_layout_that_it_began_with_and_asks_nothing_again(tmp_path: Path) -> None:
    model = families.save("lfm2", tmp_path / "model", std=0.15)
    changes = {"train__lora__target_modules": ["q_proj"], "train__precision_mode": "lora_fp16", "data__packing": True} | OFF
    config, data = config_for(model, **changes), MadeUpData()
    watch, stop = stop_at(2)
    run = TinyRun(tmp_path, config, stop)
    emit = run.ctx.emit
    run.ctx = replace(run.ctx, emit=lambda event: (emit(event), watch(event))[0])
    with pytest.raises(Stopped):
        run.train(data, plan_for(config, data))
    begun: Plan = read_plan(run.folder.plan)
    resumed = TinyRun(tmp_path, config)
    resumed.train(data, begun, resume=True)
    assert not resumed.of(LayersProved)
    assert read_plan(run.folder.plan) == begun and begun.isolation == "rows"
    assert resumed.of(TrainStep)[-1].step == begun.total_steps


def test_made_up_documents_are_longer_than_a_short_window(tmp_path: Path) -> None:
    import numpy as np

    model = families.build("mistral-window")
    config = config_for(tmp_path)
    plan = plan_for(config, MadeUpData())
    ids = np.arange(3, 40)
    made = proof._made_up(model, plan, [Document(ids, ids)])
    assert max(len(each.ids) for each in made) > families.WINDOW
    assert all(np.isin(each.ids, ids).all() for each in made)
