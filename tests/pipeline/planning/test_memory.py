from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base_model.families import family_of
from pipeline.base_model.footprint import Footprint, key
from pipeline.base_model.precision import ComputeDtype, weight_bytes
from pipeline.base_model.shape import ModelShape, from_config
from pipeline.config.schema import Config
from pipeline.dataset.figures import DataFigures
from pipeline.dataset.packing import pack
from pipeline.planning.compute import layers_run_as
from pipeline.planning.memory_plain import MemoryEstimate, estimate
from pipeline.planning.plan import make_plan
from pipeline.system.gpu import Device
from tests.benchmarks import family_memory, fused_families, train_memory
from tests.benchmarks.harness import RESULTS

GIB = 1 << 30
# What tests.benchmarks.shapes makes: all but the questions is trained.
BENCHMARK_ROWS = DataFigures(430, 1024, conversations=1500, tokens=430_000, trained_tokens=415_000, exact=True)
TINYLLAMA = ModelShape(2048, 5632, 22, 32, 4, 64, 32_000, False, 2048)
SMOLLM2 = ModelShape(576, 1536, 30, 9, 3, 64, 49_152, True, 8192)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
CASE: dict[str, Any] = {
    "precision_mode": "qlora_nf4", "compute_dtype": "bfloat16", "rank": 16, "target_modules": ATTENTION, "rows": 16,
    "row_tokens": 1024, "checkpointing": True,
}  # fmt: skip


def need(shape: ModelShape = TINYLLAMA, **changed: Any) -> MemoryEstimate:
    return estimate(shape, **(CASE | changed))


MEASURED = json.loads((RESULTS / "h100-train-memory.json").read_text(encoding="utf-8"))["train_memory"]


@pytest.mark.parametrize("measured", MEASURED, ids=lambda each: each["variant"])
def test_a_plan_predicts_within_5_percent_what_its_run_took(measured: dict[str, Any]) -> None:
    variant = train_memory.cases()[measured["variant"]]
    shape = replace(TINYLLAMA if "tinyllama" in variant.shape else SMOLLM2, tied_embeddings=False)
    gpu = Device("cuda", "NVIDIA H100", "GPU-1", 0, 79 * GIB, 78 * GIB, (9, 0))
    plan = make_plan(Config.model_validate(variant.settings("measured", 8)), shape, gpu, BENCHMARK_ROWS)
    assert plan.kernels == measured["kernels"]
    assert plan.peak_memory_bytes / GIB == pytest.approx(measured["peak_gib"], rel=0.05)


# What the runs adapted: the layers around attention, as was shipped then; every linear layer, as since.
FAMILIES = [
    (each, targets)
    for name, targets in (("h100", ATTENTION), ("h200", "all-linear"))
    for each in json.loads((RESULTS / f"{name}-family-memory.json").read_text(encoding="utf-8"))["family_memory"]
]


@pytest.mark.parametrize(
    ("measured", "targets"),
    [
        pytest.param(
            each, targets, id=f"{each['kernels']}, {each['case']}", marks=pytest.mark.matrix if "A3B" in each["case"] else ()
        )
        for each, targets in FAMILIES
    ],
)
def test_a_plan_predicts_within_5_percent_what_each_familys_run_took(measured: dict[str, Any], targets: Any) -> None:
    model = measured["case"].removesuffix(", recomputed").removesuffix(", answers too")
    sizes = {"tie_word_embeddings": False, "max_position_embeddings": 8192, **family_memory.FAMILIES[model]}
    gpu = Device("cuda", "NVIDIA H100", "GPU-1", 0, 79 * GIB, 78 * GIB, (9, 0))
    train = {name: measured[name] for name in ("kernels", "micro_batch")} | {
        "gradient_checkpointing": measured["recomputed_layers"] > 0, "attention": measured["attention"],
        "lora": {"target_modules": targets},
    }  # fmt: skip
    config = Config.model_validate({"train": train | ({"attention": "auto"} if measured["kernels"] == "fused" else {})})
    shape = from_config(sizes, model)
    if family_of(shape.model_type).norms is None:
        shape = replace(shape, footprints=asked_of_its_class(sizes, layers_run_as(config, shape, gpu)))
    plan = make_plan(config, shape, gpu, replace(BENCHMARK_ROWS, row_tokens=measured["row_tokens"]))
    assert plan.peak_memory_bytes / GIB == pytest.approx(measured["peak_gib"], rel=0.05)


FUSED = json.loads((RESULTS / "h200-fused-families.json").read_text(encoding="utf-8"))["fused_families"]


@pytest.mark.parametrize("measured", FUSED, ids=lambda each: each["variant"])
def test_a_plan_with_fused_layers_predicts_within_5_percent_what_each_familys_took(measured: dict[str, Any]) -> None:
    variant = fused_families.VARIANTS[measured["variant"]]
    lengths = fused_families.lengths_of(variant.longest)
    gpu = Device("cuda", "NVIDIA H200", "GPU-1", 0, 140 * GIB, 139 * GIB, (9, 0))
    _, _, plan = fused_families.planned(variant, gpu, pack(lengths, variant.longest, True), lengths)
    assert (plan.kernels, plan.micro_batch, plan.recomputed_layers) == (
        "fused", measured["micro_batch"], measured["recomputed_layers"],
    )  # fmt: skip
    assert plan.peak_memory_bytes / GIB == pytest.approx(measured["peak_gib"], rel=0.05)


def asked_of_its_class(sizes: dict[str, Any], how: tuple[str, ComputeDtype, str]) -> dict[str, Footprint]:
    from pipeline.modeling import measure_footprint

    device, dtype, attention = how
    model = measure_footprint.meta_model(sizes)
    return {key(*how): measure_footprint.measured(model, device=device, compute_dtype=dtype, attention=attention)}


def test_nf4_weights_are_a_quarter_of_16_bit_and_a_bit_with_embeddings_kept() -> None:
    nf4 = weight_bytes(TINYLLAMA, "qlora_nf4", "bfloat16")
    linear = TINYLLAMA.linear_parameters
    # 4.127 bits a weight (Dettmers et al. 2023), the rest in 16 bits.
    assert nf4 == pytest.approx(linear * 4.127 / 8 + 2 * (TINYLLAMA.parameters - linear), rel=1e-3)
    assert weight_bytes(TINYLLAMA, "lora_bf16", "bfloat16") == 2 * TINYLLAMA.parameters
    assert nf4 < weight_bytes(TINYLLAMA, "lora_int8", "bfloat16") < weight_bytes(TINYLLAMA, "lora_fp16", "float16")


GROWS: dict[str, Any] = {
    "rows": st.integers(1, 64), "row_tokens": st.integers(16, 8192), "rank": st.integers(1, 256),
    "dropout": st.sampled_from([0.0, 0.05]),
    "target_modules": st.sampled_from([ATTENTION[:1], ATTENTION[:3], ATTENTION, (*ATTENTION, "up_proj", "down_proj")]),
    "compute_dtype": st.sampled_from(["bfloat16", "float32"]),
}  # fmt: skip


@given(st.sampled_from([TINYLLAMA, SMOLLM2]), st.booleans(), st.sampled_from(sorted(GROWS)), st.data())
def test_more_of_anything_never_needs_less(shape: ModelShape, checkpointing: bool, name: str, data: st.DataObject) -> None:
    fixed = {key: data.draw(strategy) for key, strategy in GROWS.items()} | {"checkpointing": checkpointing}
    order = {"compute_dtype": len, "target_modules": len}.get(name, lambda value: value)
    small, large = sorted((data.draw(GROWS[name]), data.draw(GROWS[name])), key=order)
    if name == "compute_dtype":
        small, large = ("bfloat16", "float32") if small != large else (small, large)
    assert need(shape, **fixed | {name: small}).total <= need(shape, **fixed | {name: large}).total


@given(st.sampled_from([TINYLLAMA, SMOLLM2]), st.integers(1, 64), st.integers(16, 8192))
def test_checkpointing_never_costs_memory(shape: ModelShape, rows: int, row_tokens: int) -> None:
    size = {"rows": rows, "row_tokens": row_tokens, "dropout": 0.05}
    assert need(shape, **size, checkpointing=True).total <= need(shape, **size, checkpointing=False).total


def test_dropout_costs_a_mask_and_an_input_of_its_own_for_each_layer() -> None:
    plain, dropped = (need(checkpointing=False, dropout=dropout).activations for dropout in (0.0, 0.05))
    tokens, width = 16 * 1024, 2048
    # Without it query, key and value share one input, and that of the output projection is kept for attention anyway.
    assert dropped - plain == 22 * tokens * width * (4 * 3 - 2)


def test_the_components_are_the_total() -> None:
    memory = need()
    assert set(memory.components()) == {"weights", "adapter", "optimizer", "activations", "logits", "context"}
    assert sum(memory.components().values()) == memory.total
