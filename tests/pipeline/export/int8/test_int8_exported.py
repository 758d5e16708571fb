"""Eight-bit models: opened by transformers with the library they are for, and what it computes is base and adapter's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base_model.locate import base_model_at
from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.config.schema import Config
from pipeline.export.formats.registry import FORMATS
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.int8 import packaged
from pipeline.export.int8 import write as writing
from pipeline.export.int8.scheme import BITSANDBYTES, COMPRESSED_TENSORS
from pipeline.export.proof.proof import NotProved, Proof
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import families
from tests.pipeline.export.gguf.test_families_exported import WRITTEN, made
from tests.pipeline.export.made import package_of
from tests.pipeline.export.made import write as write_whole
from tests.pipeline.export.merge.adapters import save_adapter

INT8 = ("runtime_int8", "vllm_int8")
REPRESENTATIVES = {("smollm2", "runtime_int8"), ("qwen3", "vllm_int8")}
FAMILIES = tuple(WRITTEN)


def _cells() -> list[Any]:
    return [
        pytest.param(family, name, id=f"{family}-{name}", marks=() if (family, name) in REPRESENTATIVES else pytest.mark.matrix)
        for family in FAMILIES
        for name in INT8
    ]


def _written(folder: Path, package: Any, name: Any) -> Proof:
    folder.mkdir(exist_ok=True)
    return Proof.from_json(FORMATS[name].write(folder, package, lambda _: None).record["proof"])


@pytest.mark.parametrize(("family", "name"), _cells())
def test_transformers_opens_the_model_that_base_and_adapter_make(tmp_path: Path, family: str, name: Any) -> None:
    base, adapter = made(tmp_path, family)
    proof = _written(tmp_path / "made", package_of(tmp_path, base, adapter, "peft_adapter", name), name)
    assert proof.is_proved and proof.tokens >= 200 and proof.prompts >= 10 and proof.mean < 0.1
    header, _ = safetensors_header(tmp_path / "made" / name / "model.safetensors")
    held = [key for key in header if key.endswith((".SCB", ".weight_scale"))]
    assert len(held) >= 4 * 4, "every linear layer of the language model is in eight bits"
    card = (tmp_path / "made" / name / "README.md").read_text()
    assert ("not run in vLLM" in card) is (name == "vllm_int8") and "nat apart on average" in card


@pytest.mark.parametrize("name", INT8)
def test_a_gguf_base_is_written_too(tmp_path: Path, name: Any) -> None:
    folder, adapter = made(tmp_path, "smollm2")
    file = tmp_path / "base.gguf"
    write_gguf(file, folder, None, ChatTokenizer.load(folder), Made("base"), "f16", lambda _: None)
    package = package_of(tmp_path, base_model_at(file), adapter, "peft_adapter", name)
    assert _written(tmp_path / "made", package, name).mean < 0.1


def test_a_scale_of_another_row_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = made(tmp_path, "smollm2")
    package = package_of(tmp_path, base, adapter, "peft_adapter", "runtime_int8")
    quantized = writing.Scheme.quantized
    monkeypatch.setattr(
        writing.Scheme, "quantized", lambda scheme, rows: (quantized(scheme, rows)[0], np.roll(quantized(scheme, rows)[1] * 2, 1))
    )
    with pytest.raises(NotProved, match="nat from base and adapter's"):
        _written(tmp_path / "made", package, "runtime_int8")


def test_without_its_library_it_is_written_and_said_to_be_unproved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = made(tmp_path, "smollm2")
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    package = package_of(tmp_path, base, adapter, "peft_adapter", "vllm_int8")
    old = write_whole(tmp_path, package)
    manifest, each = read_json(old / "humigence.json"), FORMATS["vllm_int8"]
    assert "pip install 'humigence[vllm]'" in each.warning(manifest["vllm_int8"]) and each.is_current(manifest["vllm_int8"])
    assert each.reuse and each.reuse.ready(old, manifest, package)
    (tmp_path / "new").mkdir()
    each.reuse.take(tmp_path / "new", package, old)
    weights = "vllm_int8/model.safetensors"
    assert (tmp_path / "new" / weights).samefile(old / weights)
    monkeypatch.undo()
    assert not each.is_current(manifest["vllm_int8"]), "it can be proved now, and is made again"


def test_what_vllm_asks_of_a_config_and_its_weights(tmp_path: Path) -> None:
    """As compressed-tensors publishes 8-bit weights with 16-bit activations, and vLLM's scheme `WNA16` reads them."""
    base, adapter = made(tmp_path, "qwen3")
    _written(tmp_path / "made", package_of(tmp_path, base, adapter, "peft_adapter", "vllm_int8"), "vllm_int8")
    said = read_json(tmp_path / "made" / "vllm_int8" / "config.json")["quantization_config"]
    group = said["config_groups"]["group_0"]
    assert (said["quant_method"], said["format"], said["quantization_status"]) == (
        "compressed-tensors", "pack-quantized", "compressed",
    )  # fmt: skip
    assert said["ignore"] == ["lm_head"] and group["targets"] == ["Linear"] and group["input_activations"] is None
    asked = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    assert {key: group["weights"][key] for key in asked} == asked
    header, _ = safetensors_header(tmp_path / "made" / "vllm_int8" / "model.safetensors")
    layer = "model.layers.0.mlp.up_proj"
    assert (header[f"{layer}.weight_packed"]["dtype"], header[f"{layer}.weight_packed"]["shape"]) == ("I32", [96, 16])
    assert (header[f"{layer}.weight_scale"]["dtype"], header[f"{layer}.weight_scale"]["shape"]) == ("BF16", [96, 1])
    assert header[f"{layer}.weight_shape"]["dtype"] == "I64" and f"{layer}.weight" not in header


def test_rows_come_back_within_half_a_step_and_a_row_of_zeros_stays_one() -> None:
    rows = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    rows[3] = 0
    for scheme in (BITSANDBYTES, COMPRESSED_TENSORS):
        held, scales = scheme.quantized(rows)
        assert np.abs(held * scales[:, None] - rows).max() <= 0.51 * scales.max() and not held[3].any()


def test_several_files_have_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = made(tmp_path, "smollm2")
    monkeypatch.setattr(writing, "_SHARD_BYTES", 100_000)
    package = package_of(tmp_path, base, adapter, "peft_adapter", "runtime_int8")
    assert _written(tmp_path / "made", package, "runtime_int8").is_proved
    index = read_json(tmp_path / "made" / "runtime_int8" / "model.safetensors.index.json")
    for name in set(index["weight_map"].values()):
        header, _ = safetensors_header(tmp_path / "made" / "runtime_int8" / name)
        held = header.keys() - {"__metadata__"}
        assert held and all(index["weight_map"][key] == name for key in held)


def test_a_mixture_of_experts_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    base = base_model_at(families.save("mixtral", tmp_path / "base"))
    assert all("experts" in EXPORT_FORMATS[name].refusal(Config(), base) for name in INT8)  # type: ignore[index]


def test_layers_that_hold_their_weights_the_other_way_round_are_refused(tmp_path: Path) -> None:
    base = families.save("gpt2", tmp_path / "base")
    save_adapter(tmp_path / "adapter", base, ("c_attn",), fan_in_fan_out=True)
    package = package_of(tmp_path, base_model_at(base), tmp_path / "adapter", "peft_adapter", "runtime_int8")
    with pytest.raises(BadInput, match="the other way round"):
        _written(tmp_path / "made", package, "runtime_int8")
