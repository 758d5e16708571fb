"""A GGUF base: de-quantized as the loader does it, rounded once with what the adapter adds, into shards of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.untrusted_files import weights_problem
from pipeline.common.errors import BadInput, Stopped
from pipeline.export.merge import gguf_base
from pipeline.export.merge.gguf_base import merge_gguf, needed_memory_bytes
from pipeline.export.merge.lora_weights import Adapter
from pipeline.modeling.adapter import load_adapter
from pipeline.modeling.load import load_base, read_gguf
from pipeline.system.gpu import Device
from pipeline.system.out_of_memory import OutOfMemory
from tests import tiny
from tests.pipeline.export.merge.adapters import save_adapter, write_lora

IDS = torch.arange(3, 60)[None]
KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "Q8_0": torch.bfloat16}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    save_adapter(folder, tiny_model, ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])
    return folder


def base_of(tiny_model: Path, folder: Path, kind: str) -> BaseModel:
    return BaseModel(tiny.save_gguf(tiny_model, folder / "tiny.gguf", kind), "gguf", "tiny")


def merged(base: BaseModel, adapter: Path, folder: Path) -> Any:
    folder.mkdir()
    tally, config = merge_gguf(base, Adapter(adapter), folder, lambda _: None)
    (folder / "config.json").write_text(json.dumps(config))
    return tally


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_merged_into_a_gguf_file_computes_what_the_loader_and_the_adapter_compute(
    tiny_model: Path, adapter: Path, tmp_path: Path, kind: str
) -> None:
    from transformers import AutoModelForCausalLM

    base = base_of(tiny_model, tmp_path, kind)
    merged(base, adapter, tmp_path / "merged")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert {parameter.dtype for parameter in found.parameters()} == {KINDS[kind]}
    loaded = load_base(
        base, "lora_bf16" if KINDS[kind] == torch.bfloat16 else "lora_fp16", Device("cpu", "CPU"), compute_dtype="float32"
    )
    expected, here = logits(load_adapter(loaded, adapter)), logits(found.float())
    assert (here - expected).norm() < (2e-2 if KINDS[kind] == torch.bfloat16 else 4e-3) * expected.norm()


def test_many_shards_have_an_index_and_hold_what_one_file_holds(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    base = base_of(tiny_model, tmp_path, "F32")
    merged(base, adapter, tmp_path / "one")
    monkeypatch.setattr(gguf_base, "_SHARD_BYTES", 200_000)
    merged(base, adapter, tmp_path / "many")
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert not any(weights_problem(tmp_path / "many" / name) for name in files)
    one = load_file(tmp_path / "one" / "model.safetensors")
    places = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(places) == set(one)
    assert all(torch.equal(load_file(tmp_path / "many" / places[name])[name], one[name]) for name in one)
    whole, parts = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("one", "many"))
    assert torch.equal(logits(whole), logits(parts))


@pytest.mark.parametrize("kind", KINDS)
def test_each_sum_is_made_in_32_bits_and_rounded_once(tiny_model: Path, adapter: Path, tmp_path: Path, kind: str) -> None:
    base = base_of(tiny_model, tmp_path, kind)
    merged(base, adapter, tmp_path / "merged")
    found, plain, added = load_file(tmp_path / "merged" / "model.safetensors"), read_gguf(base).state_dict(), Adapter(adapter)
    assert set(found) == set(plain) and {tensor.dtype for tensor in plain.values()} == {torch.float32}
    for name, weight in plain.items():
        if (layer := name.removesuffix(".weight")) in added.layers:
            weight = weight + torch.from_numpy(added.of(layer).rows(0, len(weight)))
        assert torch.equal(found[name], weight.to(KINDS[kind])), name


def test_a_file_that_lacks_a_weight_is_not_merged_into(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = gguf.GGUFWriter.add_tensor
    monkeypatch.setattr(
        gguf.GGUFWriter, "add_tensor", lambda self, name, *a, **k: name == "output_norm.weight" or add(self, name, *a, **k)
    )
    base = base_of(tiny_model, tmp_path, "F32")
    with pytest.raises(BadInput, match=r"1 weights are missing or of another shape, model\.norm\.weight first"):
        merged(base, adapter, tmp_path / "merged")
    assert not list((tmp_path / "merged").iterdir())


def test_without_the_memory_for_it_nothing_is_read(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(tiny_model, tmp_path, "Q8_0")
    needed = needed_memory_bytes(base)
    assert needed > 4 * sum(tensor.numel() for tensor in read_gguf(base).state_dict().values())
    monkeypatch.setattr(gguf_base, "read_gguf", None)
    monkeypatch.setattr(gguf_base, "read_host", lambda: SimpleNamespace(memory_available_bytes=needed - 1))
    with pytest.raises(
        OutOfMemory, match=r"merging into tiny: about 1\d\d\.\d MiB of memory are needed, 1\d\d\.\d MiB are free"
    ) as caught:
        merged(base, adapter, tmp_path / "merged")
    assert caught.value.exit_code == 4 and "the adapter is packaged already" in caught.value.hint


def test_memory_that_runs_out_as_the_file_is_read_is_told_with_what_it_takes(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    base = base_of(tiny_model, tmp_path, "Q8_0")
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_memory)
    with pytest.raises(OutOfMemory, match="memory ran out while tiny was read; about") as caught:
        merged(base, adapter, tmp_path / "merged")
    assert "humigence merge goes on" in caught.value.hint


def test_a_person_can_stop_it_before_anything_is_written(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise Stopped("stopped while merging", "go on")

    (tmp_path / "merged").mkdir()
    with pytest.raises(Stopped):
        merge_gguf(base_of(tiny_model, tmp_path, "F32"), Adapter(adapter), tmp_path / "merged", stop)
    assert not list((tmp_path / "merged").iterdir())


def test_the_files_are_as_open_as_their_folder(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    merged(base_of(tiny_model, tmp_path, "F32"), adapter, tmp_path / "merged")
    folder, file = ((tmp_path / name).stat().st_mode for name in ("merged", "merged/model.safetensors"))
    assert file & 0o777 == folder & 0o666


def test_an_adapter_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    other = write_lora(tmp_path / "other", {"model.layers.0.self_attn.q_proj": (8, 8)})
    with pytest.raises(BadInput, match="no adapter for this model"):
        merged(base_of(tiny_model, tmp_path, "F32"), other, tmp_path / "merged")


def test_a_quantized_file_is_merged_in_bfloat16_and_any_other_in_its_own_type() -> None:
    kinds = gguf.GGMLQuantizationType
    assert gguf_base.merged_dtype([kinds.Q4_1, kinds.F32, kinds.Q6_K]) == "BF16"
    assert gguf_base.merged_dtype([kinds.F16, kinds.F16]) == "F16"
    assert gguf_base.merged_dtype([kinds.F16, kinds.F16, kinds.F32]) == "F16"
