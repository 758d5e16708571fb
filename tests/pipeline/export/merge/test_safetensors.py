"""What merging makes of weights: the sum, in the base's own type, everything else byte by byte as it was, in bounded memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from pipeline.common.errors import BadInput
from pipeline.export.merge import safetensors as merge
from pipeline.export.merge.bfloat16 import narrowed, widened
from pipeline.export.merge.lora_weights import Adapter, LowRank
from pipeline.export.merge.safetensors import merge_files
from pipeline.system.out_of_memory import OutOfMemory
from tests.pipeline.export.merge.adapters import save_adapter, save_base, write_lora
from tests.processes import python

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
IDS = torch.arange(3, 60)[None]
LAYER = "model.layers.0.self_attn.q_proj"


def merged(base: Path, adapter: Path, folder: Path) -> merge.Tally:
    """The base's files with the adapter in them, beside a copy of its config."""
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    for index in base.glob("*.index.json"):
        (folder / index.name).write_bytes(index.read_bytes())
    return merge_files(sorted(base.glob("*.safetensors")), Adapter(adapter), folder, lambda _: None)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()


FAMILIES = [
    ("llama", torch.bfloat16, LINEAR, {"tie_word_embeddings": False}),
    ("llama", torch.float32, ATTENTION, {"tie_word_embeddings": True}),
    ("mistral", torch.float16, LINEAR, {}),
    ("qwen2", torch.bfloat16, LINEAR, {"tie_word_embeddings": True}),
    ("qwen3", torch.bfloat16, ATTENTION, {}),
    ("gemma2", torch.bfloat16, LINEAR, {}),
    ("gemma3_text", torch.float16, ATTENTION, {}),
    ("phi3", torch.bfloat16, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"), {}),
    ("olmo2", torch.float32, LINEAR, {}),
]


@pytest.mark.parametrize(("family", "dtype", "targets", "shape"), FAMILIES, ids=[f"{each[0]}-{each[1]}" for each in FAMILIES])
def test_transformers_alone_computes_with_the_merged_model_what_base_and_adapter_compute(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    dtype: torch.dtype,
    targets: tuple[str, ...],
    shape: dict[str, Any],
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(merge, "_PIECE", 700)  # many pieces a weight
    base = save_base(tmp_path / "base", family, dtype, shard="60KB", **shape)
    adapted = save_adapter(tmp_path / "adapter", base, targets)
    tally = merged(base, tmp_path / "adapter", tmp_path / "merged")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    assert {parameter.dtype for parameter in found.parameters()} == {dtype}
    assert tally.dtype == str(dtype).removeprefix("torch.")
    expected, here = logits(adapted), logits(found.float())
    with adapted.disable_adapter():
        untuned = logits(adapted)
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert (here - expected).norm() < rounding * expected.norm()
    assert (untuned - expected).norm() > 10 * rounding * expected.norm(), "the adapter does something"
    rounded_once = {
        name: parameter.to(dtype) for name, parameter in adapted.merge_and_unload().state_dict().items() if "_proj" in name
    }
    worst = max((found.state_dict()[name].to(dtype).float() - each.float()).abs().max() for name, each in rounded_once.items())
    assert worst <= {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype], "at most one last place"


def test_what_the_adapter_does_not_change_stays_byte_by_byte(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.bfloat16, shard="60KB")
    save_adapter(tmp_path / "adapter", base, ["v_proj"])
    tally = merged(base, tmp_path / "adapter", tmp_path / "merged")
    files = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(files) > 2 and sorted(tally.digests) == files
    changed = set()
    for name in files:
        before, after = ((folder / name).read_bytes() for folder in (base, tmp_path / "merged"))
        start = 8 + int.from_bytes(before[:8], "little")
        assert before[:start] == after[:start], "the header, and with it the index, stays right"
        for weight, entry in json.loads(before[8:start]).items():
            if weight != "__metadata__":
                begin, end = (start + offset for offset in entry["data_offsets"])
                changed |= {weight} if before[begin:end] != after[begin:end] else set()
    assert changed == {f"model.layers.{number}.self_attn.v_proj.weight" for number in range(3)}


@pytest.mark.parametrize("chosen", ["BF16", "F16"])
@pytest.mark.parametrize("own", [torch.float32, torch.float16, torch.bfloat16])
def test_a_type_that_is_chosen_is_the_sums_rounded_once_whatever_the_base_is_held_in(
    tmp_path: Path, own: torch.dtype, chosen: str
) -> None:
    from transformers import AutoModelForCausalLM

    base = save_base(tmp_path / "base", "llama", own, shard="60KB")
    adapted = save_adapter(tmp_path / "adapter", base, ATTENTION)
    (tmp_path / "merged").mkdir()
    seen: list[int] = []
    files = sorted(base.glob("*.safetensors"))
    tally = merge.merge_files(files, Adapter(tmp_path / "adapter"), tmp_path / "merged", seen.append, chosen)
    shutil.copyfile(base / "config.json", tmp_path / "merged" / "config.json")
    shutil.copyfile(base / "model.safetensors.index.json", tmp_path / "merged" / "model.safetensors.index.json")
    held = {"BF16": torch.bfloat16, "F16": torch.float16}[chosen]
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    written = {name: tensor for file in files for name, tensor in load_torch(tmp_path / "merged" / file.name).items()}
    expected = {name: tensor.to(held) for name, tensor in adapted.merge_and_unload().state_dict().items()}
    assert set(written) == set(expected) and {tensor.dtype for tensor in written.values()} == {held}
    for name, tensor in written.items():
        assert torch.allclose(tensor.float(), expected[name].float(), rtol=1e-2, atol=1e-3), name
    assert logits(found.float()).isfinite().all() and tally.dtype == str(held).removeprefix("torch.")
    assert sum(seen) == 2 * sum(tensor.numel() for tensor in written.values()), "as many bytes as are written"


def test_a_weight_that_float16_does_not_hold_is_refused_and_not_written_as_infinite(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.bfloat16)
    weights = load_torch(base / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_torch(weights, base / "model.safetensors", {"format": "pt"})
    save_adapter(tmp_path / "adapter", base, ["v_proj"])
    (tmp_path / "merged").mkdir()
    with pytest.raises(BadInput, match=r"merging model\.norm\.weight.*float16") as error:
        merge.merge_files([base / "model.safetensors"], Adapter(tmp_path / "adapter"), tmp_path / "merged", lambda _: None, "F16")
    assert "merged_bf16" in error.value.hint


def test_rslora_is_scaled_by_the_root_of_the_rank(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", torch.float32)
    adapted = save_adapter(tmp_path / "adapter", base, ATTENTION, use_rslora=True)
    merged(base, tmp_path / "adapter", tmp_path / "merged")
    expected = adapted.merge_and_unload().state_dict()
    found = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(np.allclose(found[name], expected[name].numpy(), atol=1e-5) for name in found)


# ------------------------------------------------------------------------------------------------------- numbers


@given(nst.arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_numbers_are_rounded_as_torch_rounds_them(values: np.ndarray) -> None:
    wide = torch.from_numpy(values.copy())
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.float32, "F32")):
        expected = wide.to(dtype)
        data = narrowed(values, name).tobytes()
        assert data == expected.view(torch.uint8).numpy().tobytes()
        assert np.array_equal(widened(data, name), expected.float().numpy())


def test_the_share_that_rounding_leaves_is_told(tmp_path: Path) -> None:
    """A weight takes no change below half of its last place: 1 + 2⁻¹⁰ is 1 in bfloat16, 1 + 2⁻⁷ is not."""
    ones = torch.ones(16, 16, dtype=torch.bfloat16)
    for power, kept in ((10, 0.0), (7, 1.0)):
        base, adapter = tmp_path / f"base{power}", tmp_path / f"adapter{power}"
        base.mkdir()
        torch_save({f"{LAYER}.weight": ones}, base)
        write_lora(adapter, {LAYER: (16, 16)}, value=2.0 ** (-power / 2) / 2)  # rank 2, scale 2: 2 · 2 · value²
        assert merged(base, adapter, tmp_path / f"merged{power}").kept == pytest.approx(kept)


def torch_save(weights: dict[str, torch.Tensor], folder: Path) -> None:
    from safetensors.torch import save_file as save

    save(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text("{}")


# ------------------------------------------------------------------------------------------------------ refusals


def bare_base(folder: Path, name: str = f"{LAYER}.weight", size: tuple[int, int] = (16, 8), dtype: Any = np.float32) -> Path:
    folder.mkdir()
    numbers = np.random.default_rng(1).standard_normal(size).astype(dtype)
    save_file({name: numbers, "model.norm.weight": np.ones(8, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("layers.0.self_attn.q_proj.weight", LAYER),
        (f"language_model.{LAYER}.weight", LAYER),
        ("model.language_model.layers.0.self_attn.q_proj.weight", LAYER),
        (f"language_model.{LAYER}.weight", "model.language_model.layers.0.self_attn.q_proj"),
    ],
)
def test_a_weight_is_found_where_the_outermost_modules_are_named_otherwise(tmp_path: Path, name: str, layer: str) -> None:
    base, adapter = bare_base(tmp_path / "base", name), write_lora(tmp_path / "adapter", {layer: (16, 8)})
    tower = "vision_tower.layers.0.self_attn.q_proj.weight"
    weights = load_file(base / "model.safetensors") | {tower: np.ones((16, 8), np.float32)}
    save_file(weights, base / "model.safetensors")
    merged(base, adapter, tmp_path / "merged")
    change = Adapter(adapter).of(layer)
    after = load_file(tmp_path / "merged" / "model.safetensors")
    assert np.allclose(after[name], weights[name] + 2 * change.up @ change.down)
    assert np.array_equal(after[tower], weights[tower])


@pytest.mark.parametrize(
    ("layers", "settings", "told"),
    [
        ({"model.layers.7.self_attn.q_proj": (16, 8)}, {}, "no weight of model.layers.7"),
        ({LAYER: (16, 16)}, {}, "is [16, 8], its adapter [16, 16]"),
        ({LAYER: (16, 8)}, {"use_dora": True}, "other weights than the A and B of plain LoRA"),
        ({LAYER: (16, 8)}, {"rank_pattern": {"q_proj": 8}}, "asks for rank_pattern"),
        ({LAYER: (16, 8)}, {"modules_to_save": ["lm_head"]}, "asks for modules_to_save"),
        ({LAYER: (16, 8)}, {"fan_in_fan_out": True}, "is [16, 8], its adapter [8, 16]"),
        ({LAYER: (16, 8)}, {"init_lora_weights": "pissa"}, "asks for init_lora_weights"),
        ({LAYER: (16, 8)}, {"peft_type": "IA3"}, "describes no LoRA adapter"),
        ({}, {}, "other weights than the A and B of plain LoRA"),
    ],
)
def test_what_is_no_plain_lora_of_this_base_is_refused(
    tmp_path: Path, layers: dict[str, tuple[int, int]], settings: dict[str, Any], told: str
) -> None:
    adapter = write_lora(tmp_path / "adapter", layers, **settings)
    with pytest.raises(BadInput, match="no adapter for this model") as caught:
        merged(bare_base(tmp_path / "base"), adapter, tmp_path / "merged")
    assert told in caught.value.message


def test_weights_that_are_held_the_other_way_round_get_the_sum_that_way(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "adapter", {LAYER: (16, 8)}, fan_in_fan_out=True)
    tensors = load_file(adapter / "adapter_model.safetensors")
    down, up = (tensors[f"base_model.model.{LAYER}.lora_{part}.weight"] for part in "AB")
    base = bare_base(tmp_path / "base", size=(8, 16))
    merged(base, adapter, tmp_path / "merged")
    before, after = (load_file(folder / "model.safetensors")[f"{LAYER}.weight"] for folder in (base, tmp_path / "merged"))
    assert np.allclose(after, before + 2 * (up @ down).T)


def test_weights_that_are_added_by_another_method_are_refused(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "adapter", {LAYER: (16, 8)})
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[f"base_model.model.{LAYER}.lora_magnitude_vector.weight"] = np.ones(16, np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="other weights"):
        Adapter(adapter)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), np.float32), (200.0, np.float16), (1e20, np.float32)])
def test_a_sum_that_is_no_number_is_never_written_as_a_weight(tmp_path: Path, value: float, dtype: Any) -> None:
    base = bare_base(tmp_path / "base", dtype=dtype)
    adapter = write_lora(tmp_path / "adapter", {LAYER: (16, 8)}, value=value)
    with np.errstate(all="ignore"), pytest.raises(BadInput, match=f"merging {LAYER}.weight: the sum is no finite number"):
        merged(base, adapter, tmp_path / "merged")


def test_weights_of_whole_numbers_are_not_merged_into(tmp_path: Path) -> None:
    base, adapter = bare_base(tmp_path / "base", dtype=np.int8), write_lora(tmp_path / "adapter", {LAYER: (16, 8)})
    with pytest.raises(BadInput, match="it is of type I8"):
        merged(base, adapter, tmp_path / "merged")


# -------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("most", [5, 1])
def test_where_memory_runs_out_fewer_rows_are_merged_at_once_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    base, adapter = bare_base(tmp_path / "base"), write_lora(tmp_path / "adapter", {LAYER: (16, 8)})
    untroubled = merged(base, adapter, tmp_path / "untroubled")
    whole = LowRank.rows

    def rows(self: LowRank, begin: int, end: int) -> np.ndarray:
        if end - begin > most:
            raise MemoryError(f"Unable to allocate {end - begin} rows")
        return whole(self, begin, end)

    monkeypatch.setattr(LowRank, "rows", rows)
    tally = merged(base, adapter, tmp_path / "merged")
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "untroubled"))
    assert all(np.allclose(found[name], expected[name], atol=1e-5) for name in expected)
    assert tally.kept == pytest.approx(untroubled.kept)


def test_where_not_even_a_row_finds_memory_it_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: Any) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(LowRank, "rows", rows)
    base, adapter = bare_base(tmp_path / "base"), write_lora(tmp_path / "adapter", {LAYER: (16, 8)})
    with pytest.raises(OutOfMemory, match=f"while merging {LAYER}.weight") as caught:
        merged(base, adapter, tmp_path / "merged")
    assert "humigence merge" in caught.value.hint


def test_memory_does_not_grow_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_PIECE", 1 << 14)
    monkeypatch.setattr(merge, "_COPIED_BYTES", 1 << 16)
    base, adapter = tmp_path / "base", write_lora(tmp_path / "adapter", {LAYER: (2048, 1024)})
    base.mkdir()
    large = {f"{LAYER}.weight": np.ones((2048, 1024), np.float32), "lm_head.weight": np.ones((2048, 1024), np.float32)}
    save_file(large, base / "model.safetensors")  # 16 MiB
    (base / "config.json").write_text("{}")
    del large
    tracemalloc.start()
    try:
        merged(base, adapter, tmp_path / "merged")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_merging_needs_neither_torch_nor_peft() -> None:
    """So that it runs beside a training, and can be killed by the thousand."""
    heavy = "('torch', 'peft', 'pydantic')"
    program = f"import sys, pipeline.export.merge.safetensors; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert python(program).returncode == 0
