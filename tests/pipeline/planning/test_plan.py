from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.base_model.shape import ModelShape, from_config
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.planning import planner
from pipeline.planning.memory_fused import estimate_fused
from pipeline.planning.micro_batch import USABLE_SHARE
from pipeline.planning.plan import Plan, banner, make_plan, read_plan, steps_per_epoch, write_plan
from pipeline.planning.proved import Refused, inputs_of, save_refused
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import GIB, Device

TINYLLAMA = ModelShape(2048, 5632, 22, 32, 4, 64, 32_000, False, 2048)
SMOLLM2 = ModelShape(576, 1536, 30, 9, 3, 64, 49_152, True, 8192)


def gpu(free_gib: float, capability: tuple[int, int] = (8, 9)) -> Device:
    size = int(free_gib * GIB)
    return Device("cuda", "NVIDIA Test", "GPU-1", 0, size, size, capability)


def cpu(free_gib: float = 16) -> Device:
    return Device("cpu", "CPU", total_bytes=int(free_gib * GIB), free_bytes=int(free_gib * GIB))


def figures(rows: int, row_tokens: int = 1024, exact: bool = True) -> DataFigures:
    tokens = int(rows * row_tokens * 0.97)
    return DataFigures(rows, row_tokens, rows * 4, tokens, tokens // 2, exact)


def config(data: dict[str, Any] | None = None, **train: Any) -> Config:
    """With adapters around attention, which the figures here were worked out for."""
    lora = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], **train.pop("lora", {})}
    return Config.model_validate({"data": data or {}, "train": {**train, "lora": lora}})


# ------------------------------------------------------------------------------------------------- as Trainer counts


def trainers_count(rows: int, micro_batch: int, accumulation: int, epochs: float, folder: Path) -> int:
    import torch
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainingArguments

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return rows

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"x": torch.zeros(1)}

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs, report_to=[], use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(model=torch.nn.Linear(1, 1), args=arguments, train_dataset=Rows())
    values: tuple[int, ...] = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    return int(values[-1])  # max_steps


def test_steps_are_counted_as_the_trainer_counts_them(tmp_path: Path) -> None:
    cases = [
        (rows, micro, accumulation, epochs)
        for rows in (1, 2, 7, 16, 33, 100)
        for micro, accumulation in ((1, 1), (1, 16), (2, 8), (3, 2), (16, 1), (8, 5))
        for epochs in (1.0, 0.3, 2.5)
    ]
    for rows, micro, accumulation, epochs in cases:
        wanted = {"epochs": epochs, "micro_batch": micro, "tokens_per_step_target": micro * accumulation * 1024}
        plan = make_plan(config(**wanted), SMOLLM2, gpu(80), figures(rows))
        assert plan.held_out == "drawn"
        assert (plan.micro_batch, plan.accumulation) == (micro, accumulation)
        assert plan.total_steps == trainers_count(rows, micro, accumulation, epochs, tmp_path), (
            rows,
            micro,
            accumulation,
            epochs,
        )


# ------------------------------------------------------------------------------------------------- properties


@given(
    rows=st.integers(1, 200_000),
    length=st.sampled_from([128, 1024, 4096]),
    target=st.one_of(st.just("auto"), st.integers(1, 200_000)),
    micro=st.one_of(st.just("auto"), st.integers(1, 32)),
    epochs=st.sampled_from([0.5, 1.0, 3.0]),
    device=st.sampled_from([gpu(80), gpu(15.5), gpu(6), cpu()]),
)
def test_every_plan_covers_its_target_and_fits(
    rows: int, length: int, target: int | str, micro: int | str, epochs: float, device: Device
) -> None:
    settings = config(
        {"max_seq_len": length, "window_overlap": 0}, tokens_per_step_target=target, micro_batch=micro, epochs=epochs
    )
    try:
        plan = make_plan(settings, TINYLLAMA, device, figures(rows, length))
    except EnvironmentFault:
        assume(False)
    if target != "auto":
        assert plan.tokens_per_step >= int(target)
        assert plan.micro_batch * (plan.accumulation - 1) * length < int(target)
    if micro == "auto":
        assert plan.peak_memory_bytes <= USABLE_SHARE * device.free_bytes
    assert plan.total_steps == max(1, math.ceil(epochs * steps_per_epoch(rows, plan.micro_batch, plan.accumulation)))
    if plan.total_steps >= 10:
        assert plan.total_steps // plan.eval_every_steps >= 10
    assert 0 <= plan.warmup_steps <= plan.total_steps


@given(rows=st.integers(1, 100_000), device=st.sampled_from([gpu(80), gpu(15.5), cpu()]))
def test_an_epoch_has_steps_enough_to_judge_wherever_the_rows_allow(rows: int, device: Device) -> None:
    plan = make_plan(config(), SMOLLM2, device, figures(rows))
    assert plan.steps_per_epoch >= min(20, rows)
    assert plan.micro_batch * plan.accumulation <= 16
    if rows >= 320:
        assert plan.micro_batch * plan.accumulation == 16


@given(free=st.floats(3, 80), more=st.floats(0, 40))
def test_more_free_memory_never_makes_a_smaller_micro_batch_without_checkpointing_gained(free: float, more: float) -> None:
    small, large = (make_plan(config(), TINYLLAMA, gpu(size), figures(5000)) for size in (free, free + more))
    if small.gradient_checkpointing == large.gradient_checkpointing:
        assert small.micro_batch <= large.micro_batch
    else:
        assert small.gradient_checkpointing


# ------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize(("kernels", "small"), [("plain", 6), ("fused", 4)])
def test_checkpointing_only_where_memory_asks_for_it(kernels: str, small: float) -> None:
    plans = {free: make_plan(config(kernels=kernels), TINYLLAMA, gpu(free), figures(5000)) for free in (80, 15.5, small)}
    assert [plan.gradient_checkpointing for plan in plans.values()] == [False, False, True]
    assert plans[80].micro_batch == 16
    assert "would fit" in plans[small].reasons["gradient_checkpointing"]


@given(st.floats(2.1, 12))
def test_fused_kernels_recompute_no_more_layers_than_memory_asks_for(free: float) -> None:
    plan = make_plan(config(), TINYLLAMA, gpu(free), figures(5000))
    assume(plan.recomputed_layers)
    fewer = memory(plan, plan.recomputed_layers - 1)
    assert plan.peak_memory_bytes <= USABLE_SHARE * plan.free_memory_bytes < fewer
    assert f"{plan.recomputed_layers} of 22 layers" in plan.reasons["gradient_checkpointing"] or plan.recomputed_layers == 22


def memory(plan: Plan, recomputed_layers: int) -> int:
    return estimate_fused(
        TINYLLAMA, precision_mode="qlora_nf4", rank=16, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
        tokens=plan.micro_batch * plan.row_tokens, recomputed_layers=recomputed_layers, keep_dequantized=False, dropout=0.05,
    ).total  # fmt: skip


def test_weights_are_kept_in_16_bits_too_where_there_is_room() -> None:
    assert make_plan(config(), TINYLLAMA, gpu(80), figures(5000)).keep_dequantized
    assert not make_plan(config(), TINYLLAMA, gpu(4), figures(5000)).keep_dequantized
    assert not make_plan(config(precision_mode="lora_bf16"), TINYLLAMA, gpu(80), figures(5000)).keep_dequantized


@pytest.mark.parametrize(
    ("device", "changed", "model", "because"),
    [
        (gpu(80), {}, TINYLLAMA, ""), (gpu(80), {"precision_mode": "lora_int8"}, TINYLLAMA, ""),
        (cpu(), {}, TINYLLAMA, "NVIDIA GPU"), (gpu(80, (7, 5)), {}, TINYLLAMA, "capability 8.0"),
        (gpu(80), {"precision_mode": "lora_fp16"}, TINYLLAMA, "bfloat16"), (gpu(80), {"attention": "sdpa"}, TINYLLAMA, "you set"),
        (gpu(80), {"kernels": "plain"}, TINYLLAMA, "set by you"),
        (gpu(80), {}, replace(TINYLLAMA, model_type="gemma2"), "gemma2"), (gpu(80), {}, replace(TINYLLAMA, head_dim=80), "80"),
    ],
)  # fmt: skip
def test_fused_kernels_where_they_work_and_the_reason_where_not(
    device: Device, changed: dict[str, Any], model: ModelShape, because: str
) -> None:
    plan = make_plan(config(**changed), model, device, figures(100))
    assert plan.kernels == ("plain" if because else "fused")
    assert because in plan.reasons["kernels"]


_LLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32_000, "max_position_embeddings": 32_768,
}  # fmt: skip
_MISTRAL = {**_LLAMA, "model_type": "mistral", "sliding_window": 4096}
_QWEN = {**_LLAMA, "model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 10}
CONFIGS = {
    "mistral": (_MISTRAL, ""),
    "qwen uses a window": (_QWEN | {"use_sliding_window": True}, ""),
    "gelu by tanh": (_LLAMA | {"hidden_act": "gelu_pytorch_tanh"}, ""),
    "activation": (_LLAMA | {"hidden_act": "gelu"}, "not the model's gelu"),
    "dropout": (_LLAMA | {"attention_dropout": 0.1}, "dropout"),
    "plain": (_LLAMA, ""),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plan_says_of_the_fused_layers_what_training_will_say(name: str) -> None:
    """From config.json what the loaded model is asked for: a run is not planned with kernels that it then refuses."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.training.fused.proof import fused_problem

    document, because = CONFIGS[name]
    plan = make_plan(config(), from_config(document, "config.json"), gpu(80), figures(100, 8192))
    assert plan.kernels == ("plain" if because else "fused") and because in plan.reasons["kernels"]
    with torch.device("meta"):
        loaded = AutoModelForCausalLM.from_config(AutoConfig.for_model(**document))
    said = fused_problem(loaded, "cuda")
    assert bool(said) == (plan.kernels == "plain") and said in plan.reasons["kernels"]


def test_what_a_models_class_said_of_its_parts_the_plan_knows() -> None:
    """Of a family that no row tells of: before it was asked, and after."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.modeling.inspect_architecture import inspected

    hybrid = _LLAMA | {
        "model_type": "granitemoehybrid", "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 5632,
    }  # fmt: skip
    for kinds, kernels, because in (
        (["attention"] * 22, "fused", "fused layers with their backward pass"),
        (["mamba", "attention"] * 11, "plain", "the fused ones know layers of attention and an MLP only"),
    ):
        document = hybrid | {"layer_types": kinds, "mamba_n_heads": 64}
        shape = from_config(document, "config.json")
        before = make_plan(config(), shape, gpu(80), figures(100))
        assert before.kernels == "plain" and "is not known before humigence validate asks" in before.reasons["kernels"]
        with torch.device("meta"):
            facts = inspected(AutoModelForCausalLM.from_config(AutoConfig.for_model(**document), dtype=torch.bfloat16))
        asked = make_plan(config(), replace(shape, architecture=facts), gpu(80), figures(100))
        assert asked.kernels == kernels and because in asked.reasons["kernels"]


def test_what_a_proof_has_refused_the_next_plan_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, here = config(), Workspace(tmp_path)

    def counted(asked: Config, _: Workspace) -> DataFigures:
        return figures(100 if asked.data.packing else 400)

    monkeypatch.setattr(planner, "exact_figures", counted)
    before = planner.plan_for(settings, here, TINYLLAMA, gpu(80))
    refused = Refused(inputs_of(settings, TINYLLAMA, gpu(80)), fused="it computes something else", packing="they see each other")
    save_refused(here.project(settings.project), refused)
    after = planner.plan_for(settings, here, TINYLLAMA, gpu(80))
    assert (before.kernels, before.isolation, before.rows_per_epoch) == ("fused", "positions", 100)
    assert (after.kernels, after.isolation, after.rows_per_epoch, after.attention) == ("plain", "rows", 400, "sdpa")
    assert after.reasons["kernels"] == "the model's own layers: it computes something else"
    assert after.reasons["packing"] == "they see each other"
    assert after.inputs == before.inputs  # made from the same things: a resume takes the run's plan
    other = replace(TINYLLAMA, layers=23)
    assert planner.plan_for(settings, here, other, gpu(80)).kernels == "fused"


def test_a_plan_knows_of_families_whose_packed_conversations_see_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "exact_figures", lambda asked, _: figures(100 if asked.data.packing else 400))
    hybrid = _LLAMA | {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"] * 11}
    plan = planner.plan_for(config(), Workspace(tmp_path), from_config(hybrid, "config.json"), gpu(80))
    assert (plan.isolation, plan.rows_per_epoch) == ("rows", 400) and "see each other" in plan.reasons["packing"]
    dense = hybrid | {"layer_types": ["attention"] * 22}
    assert planner.plan_for(config(), Workspace(tmp_path), from_config(dense, "config.json"), gpu(80)).rows_per_epoch == 100


@pytest.mark.parametrize("changed", [{"precision_mode": "lora_fp16"}, {"attention": "varlen"}])
def test_fused_kernels_asked_for_where_they_do_not_work_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"train\.(kernels|attention)"):
        make_plan(config(kernels="fused", **changed), TINYLLAMA, gpu(80), figures(100))


def test_a_cpu_takes_one_or_two_rows_in_32_bits() -> None:
    plan = make_plan(config(), SMOLLM2, cpu(64), figures(5000))
    assert plan.micro_batch == 2 and plan.accumulation == 8 and plan.compute_dtype == "float32"


@pytest.mark.parametrize(
    ("device", "mode", "expected"),
    [
        (gpu(16, (8, 0)), "qlora_nf4", "bfloat16"), (gpu(16, (7, 5)), "qlora_nf4", "float16"),
        (gpu(16, (9, 0)), "lora_fp16", "float16"), (cpu(), "lora_bf16", "float32"),
    ],
)  # fmt: skip
def test_the_compute_type_is_what_the_device_is_good_at(device: Device, mode: str, expected: str) -> None:
    assert make_plan(config(precision_mode=mode), SMOLLM2, device, figures(100)).compute_dtype == expected


def test_what_does_not_fit_is_told_with_the_numbers_and_the_setting() -> None:
    with pytest.raises(
        EnvironmentFault, match=r"one row of 1,024 tokens with gradient checkpointing needs about \d+\.\d\d GiB"
    ) as error:
        make_plan(config(kernels="plain"), TINYLLAMA, gpu(2), figures(100))
    assert error.value.exit_code == 4
    setting, value = error.value.hint.removeprefix("humigence config set ").split()
    assert setting == "data.max_seq_len"
    shorter = config({"max_seq_len": int(value)}, kernels="plain")
    make_plan(shorter, TINYLLAMA, gpu(2), figures(100, int(value)))  # the advice helps

    with pytest.raises(EnvironmentFault) as heavy:
        make_plan(config(precision_mode="lora_bf16"), TINYLLAMA, gpu(2.2), figures(100))
    assert heavy.value.hint == "humigence config set train.precision_mode qlora_nf4"
    with pytest.raises(EnvironmentFault) as without:
        make_plan(config(gradient_checkpointing=False), TINYLLAMA, gpu(2), figures(100))
    assert without.value.hint == "humigence config set train.gradient_checkpointing auto"


def test_what_the_user_set_is_honoured_and_said() -> None:
    wanted: dict[str, Any] = {
        "micro_batch": 12, "gradient_checkpointing": True, "eval_every_steps": 7, "save_every_steps": 5, "max_steps": 30,
        "tokens_per_step_target": 50_000,
    }  # fmt: skip
    plan = make_plan(config(**wanted), TINYLLAMA, gpu(2), figures(5000))
    assert (plan.micro_batch, plan.accumulation, plan.gradient_checkpointing) == (12, 5, True)  # 49 rows
    assert (plan.eval_every_steps, plan.save_every_steps, plan.total_steps) == (7, 5, 30)
    assert all("set by you" in plan.reasons[key] for key in ("micro_batch", "gradient_checkpointing", "total_steps"))
    assert "may run out of memory" in plan.reasons["micro_batch"]


def test_max_steps_never_adds_steps() -> None:
    assert make_plan(config(max_steps=10_000), SMOLLM2, gpu(80), figures(100)).total_steps == 25


def test_time_is_only_told_when_it_was_measured() -> None:
    plan = make_plan(config(epochs=2.0), SMOLLM2, gpu(80), figures(100), tokens_per_second=1000)
    assert plan.train_tokens == 2 * figures(100).tokens
    assert plan.seconds == pytest.approx(plan.train_tokens / 1000)
    assert make_plan(config(), SMOLLM2, gpu(80), figures(100)).seconds == 0


def test_a_device_that_does_not_tell_its_memory_can_be_used() -> None:
    plan = make_plan(config(), TINYLLAMA, Device("cuda", "GB10", "GPU-1", capability=(12, 1)), figures(5000))
    assert plan.micro_batch == 16 and "does not tell its memory" in plan.reasons["micro_batch"]


# ------------------------------------------------------------------------------------------------- files and words


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = make_plan(config(), SMOLLM2, gpu(80), figures(100)).with_inputs("abc")
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    assert Plan.from_json({**plan.to_json(), "of_a_newer_version": 1}) == plan
    (tmp_path / "plan.json").write_text('{"exact": true}')
    with pytest.raises(BadInput, match="not a training plan"):
        read_plan(tmp_path / "plan.json")


def test_the_event_and_the_banner_tell_the_plan() -> None:
    plan = make_plan(config(), TINYLLAMA, gpu(15.5), figures(5000, exact=False))
    event = plan.event()
    assert (event.exact, event.micro_batch, event.accumulation) == (False, 8, 2)
    assert event.peak_memory_bytes == sum(plan.memory.values())
    text = banner(plan, TINYLLAMA, gpu(15.5))
    assert "≈ 313 steps of 8 × 2 rows of 1,024 tokens" in text
    assert "qlora_nf4 · compute bfloat16 · fused kernels · checkpointing off · 4.51 M of 1,100 M parameters" in text
    small = banner(make_plan(config(), TINYLLAMA, gpu(4), figures(5000)), TINYLLAMA, gpu(4))
    assert "checkpointing of 14 layers" in small
    plain = banner(make_plan(config(attention="sdpa"), TINYLLAMA, gpu(15.5), figures(5000)), TINYLLAMA, gpu(15.5))
    assert "attention sdpa" in plain


@pytest.mark.parametrize(
    ("device", "wanted", "chosen"),
    [
        (gpu(16), "auto", "varlen"), (gpu(16, (7, 5)), "auto", "sdpa"), (cpu(), "auto", "sdpa"), (gpu(16), "sdpa", "sdpa"),
    ],
)  # fmt: skip
def test_attention_is_by_offsets_where_the_device_has_the_kernel(device: Device, wanted: str, chosen: str) -> None:
    plan = make_plan(config(attention=wanted, kernels="plain"), TINYLLAMA, device, figures(100))
    assert plan.attention == chosen and plan.reasons["attention"]


def test_attention_by_offsets_is_refused_where_there_is_no_kernel() -> None:
    with pytest.raises(BadInput, match=r"train\.attention"):
        make_plan(config(attention="varlen"), SMOLLM2, cpu(), figures(100))
