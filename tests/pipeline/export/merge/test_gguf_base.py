"""A GGUF base: de-quantized as the loader does it, a weight at a time, into shards of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.untrusted_files import weights_problem
from pipeline.common.errors import BadInput
from pipeline.export.merge import gguf_base
from pipeline.export.merge.gguf_base import GgufWeights, merge_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.modeling.adapter import load_adapter
from pipeline.modeling.load import load_base
from pipeline.system.gpu import Device
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
    weights = GgufWeights(base)
    tally = merge_gguf(weights, Adapter(adapter), folder, lambda _: None)
    (folder / "config.json").write_text(json.dumps(weights.config.to_dict()))
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


def test_a_file_that_lacks_a_weight_is_not_merged_into(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(tiny_model, tmp_path, "F32")
    weights = GgufWeights(base)
    all_but_one = [each for each in weights if each[0] != "model.norm.weight"]
    monkeypatch.setattr(GgufWeights, "__iter__", lambda _: iter(all_but_one))
    (tmp_path / "merged").mkdir()
    with pytest.raises(BadInput, match=r"lacks model\.norm\.weight"):
        merge_gguf(weights, Adapter(adapter), tmp_path / "merged", lambda _: None)


def test_an_adapter_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    other = write_lora(tmp_path / "other", {"model.layers.0.self_attn.q_proj": (8, 8)})
    with pytest.raises(BadInput, match="no adapter for this model"):
        merged(base_of(tiny_model, tmp_path, "F32"), other, tmp_path / "merged")


def test_a_quantized_file_is_merged_in_bfloat16_and_any_other_in_its_own_type() -> None:
    kinds = gguf.GGMLQuantizationType
    assert gguf_base.merged_dtype([kinds.Q4_1, kinds.F32, kinds.Q6_K]) == "BF16"
    assert gguf_base.merged_dtype([kinds.F16, kinds.F16]) == "F16"
    assert gguf_base.merged_dtype([kinds.F16, kinds.F16, kinds.F32]) == "F16"
