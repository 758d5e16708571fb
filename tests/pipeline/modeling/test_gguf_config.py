"""Nothing of a GGUF file that changes the computation is passed over: it is used, or the file is refused and the thing named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from pipeline.base_model.gguf_header import read_header, write_without_vocabulary
from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import BadInput
from pipeline.modeling.gguf_config import gguf_config
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.modeling.load import load_base, read_gguf
from pipeline.system.gpu import cpu_device
from tests import families
from tests.pipeline.modeling import gguf_files

IDS = torch.arange(3, 120)[None]
NAMES = [pytest.param(name, marks=() if name == "llama-3" else pytest.mark.matrix) for name in gguf_files.ARCHITECTURES]


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits.float()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_computes_what_the_model_it_was_made_from_computes(tmp_path: Path, name: str) -> None:
    model = gguf_files.build(name)
    path = gguf_files.save(name, model, tmp_path / "m.gguf")
    architecture_of(path, name)
    assert torch.allclose(logits(read_gguf(base_model_at(path))), logits(model), atol=1e-4)


def test_the_scaled_frequencies_of_llama_3_are_in_the_model_that_trains(tmp_path: Path) -> None:
    model = families.build("llama-3")
    loaded = load_base(
        base_model_at(gguf_files.save("llama-3", model, tmp_path / "m.gguf")), "lora_fp16", cpu_device(), compute_dtype="float32"
    )
    assert torch.allclose(loaded.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq, rtol=1e-5)
    assert loaded.config.rope_parameters == model.config.rope_parameters


def test_a_scaling_of_ones_is_none_and_one_that_is_unknown_is_refused(tmp_path: Path) -> None:
    model = families.build("llama-2")

    def divided(*numbers: float) -> Path:
        data = np.array(numbers, dtype=np.float32)
        return gguf_files.save("llama-2", model, tmp_path / "m.gguf", lambda writer: writer.add_tensor("rope_freqs.weight", data))

    assert gguf_config(divided(*[1.0] * 8), "m").rope_parameters["rope_type"] == "default"
    for strange in ([1, 1, 1, 2, 3, 5, 8, 8], [0.0] * 8, [1e30] * 8, [1.0] * 7 + [float("nan")], [1, 2]):
        with pytest.raises(BadInput, match=r"rope_freqs\.weight"):
            gguf_config(divided(*strange), "m")


# ------------------------------------------------------------------------------------------------- metadata, from the head

_SIZES: dict[str, Any] = {
    "context_length": 4096, "embedding_length": 64, "block_count": 4, "feed_forward_length": 96, "attention.head_count": 4,
    "attention.head_count_kv": 2, "vocab_size": 300,
}  # fmt: skip
_OF = {
    "llama": {"attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 16},
    "qwen2": {"attention.layer_norm_rms_epsilon": 1e-6},
    "gemma2": {"attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 256},
    "phi3": {"attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 16},
    "starcoder2": {"attention.layer_norm_epsilon": 1e-5},
    "stablelm": {"attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": 4, "use_parallel_residual": False},
    "qwen3moe": {
        "attention.layer_norm_rms_epsilon": 1e-6, "attention.key_length": 16, "expert_count": 4, "expert_used_count": 2,
        "expert_feed_forward_length": 768,
    },
}  # fmt: skip


def head(path: Path, architecture: str, **entries: Any) -> Path:
    """A file of metadata, tokens and one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_token_list([f"<{number}>" for number in range(300)])
    for key, value in (_SIZES | _OF[architecture] | entries).items():
        kind = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, bool: writer.add_bool}[type(value)]
        kind(f"{architecture}.{key}", value)
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "entries"),
    [
        ("llama", {"rope.scaling.type": "none", "rope.freq_base": 500_000.0, "attention.key_length": 16, "expert_count": 0}),
        ("llama", {"rope.scaling.original_context_length": 2048, "attention.causal": True, "rope.scaling.finetuned": False}),
        ("llama", {"attention.sliding_window": 4096, "attention.scale": 0.25, "rope.scaling.attn_factor": 1.0}),
        ("qwen2", {"rope.freq_base": 1e6, "rope.scaling.factor": 1.0}),
        ("gemma2", {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 512}),
        ("stablelm", {"rope.freq_base": 10_000.0}),
        ("qwen3moe", {"expert_weights_norm": True}),
    ],
)
def test_what_is_used_or_changes_nothing_is_no_reason_to_refuse(
    tmp_path: Path, architecture: str, entries: dict[str, Any]
) -> None:
    assert gguf_config(head(tmp_path / "m.gguf", architecture, **entries), "m").hidden_size == 64


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("llama", "rope.scaling.type", "yarn"), ("llama", "rope.scaling.type", "linear"), ("llama", "rope.scaling.factor", 4.0),
        ("qwen2", "rope.scaling.type", "yarn"), ("qwen2", "rope.scaling.yarn_beta_fast", 16.0),
        ("phi3", "rope.scaling.attn_factor", 1.19), ("phi3", "attention.sliding_window", 2047),
        ("llama", "attention.sliding_window", 512), ("qwen2", "attention.sliding_window", 512),
        ("llama", "attention.key_length", 32), ("llama", "attention.value_length", 32), ("llama", "attention.scale", 0.5),
        ("llama", "expert_count", 8), ("llama", "expert_used_count", 2), ("llama", "logit_scale", 0.0625),
        ("llama", "embedding_scale", 12.0), ("llama", "residual_scale", 0.22), ("llama", "attention.clamp_kqv", 8.0),
        ("llama", "a_setting_of_tomorrow", 1), ("gemma2", "final_logit_softcapping", 20.0),
        ("gemma2", "attn_logit_softcapping", 10.0), ("gemma2", "attention.key_length", 16),
        ("starcoder2", "rope.freq_base", 999_999.0),
        ("stablelm", "rope.dimension_count", 16), ("stablelm", "use_parallel_residual", True),
        ("qwen3moe", "expert_feed_forward_length", 32), ("qwen3moe", "expert_weights_scale", 2.5),
    ],
)  # fmt: skip
def test_metadata_that_would_not_be_used_is_named(tmp_path: Path, architecture: str, key: str, value: Any) -> None:
    with pytest.raises(BadInput, match=r"would not be used|follows from") as caught:
        gguf_config(head(tmp_path / "m.gguf", architecture, **{key: value}), "m")
    named = "the scale of attention" if (architecture, key) == ("gemma2", "attention.key_length") else f"{architecture}.{key}"
    assert named in caught.value.message


def test_one_of_several_files_is_refused_as_that(tmp_path: Path) -> None:
    writer_of = gguf.GGUFWriter
    path = tmp_path / "m.gguf"
    writer = writer_of(path, "llama")
    writer.add_token_list(["a"] * 300)
    for key, value in (_SIZES | {"rope.dimension_count": 16}).items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint16("split.count", 3)
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadInput, match=r"split\.count = 3"):
        gguf_config(path, "m")


@pytest.mark.parametrize(
    "tensor", ["blk.0.attn_q.bias", "blk.2.ffn_norm.weight", "rope_factors_long.weight", "blk.0.attn_sinks.weight"]
)
def test_a_tensor_that_becomes_no_weight_is_named_before_anything_is_loaded(tmp_path: Path, tensor: str) -> None:
    model = families.build("llama-2", num_hidden_layers=2)

    def also(writer: Any) -> None:
        writer.add_tensor(tensor, np.ones(64, dtype=np.float32))

    path = gguf_files.save("llama-2", model, tmp_path / "m.gguf", also)
    with pytest.raises(BadInput, match="would not be used") as caught:
        architecture_of(path, "m")
    assert tensor in caught.value.message
    with pytest.raises(BadInput, match="would not be used"):
        read_gguf(base_model_at(path))


def test_the_config_is_the_one_of_the_whole_file_without_reading_its_vocabulary(tmp_path: Path) -> None:
    from transformers import AutoConfig

    path = gguf_files.save("qwen2", gguf_files.build("qwen2"), tmp_path / "m.gguf", lambda writer: writer.add_eos_token_id(7))
    whole = AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf").to_dict()
    assert gguf_config(path, "m").to_dict() == whole and whole["eos_token_id"] == 7 and whole["vocab_size"] == 640
    write_without_vocabulary(path, tmp_path / "without.gguf")
    before, after = read_header(path), read_header(tmp_path / "without.gguf")
    assert after.metadata == before.metadata and after.tensors == before.tensors
    assert "tokenizer.ggml.tokens" in before.lengths and not after.lengths


def test_every_architecture_that_transformers_reads_is_known_by_its_own_table() -> None:
    """A key of the table that is held against the config under another name would be refused in every file."""
    from pipeline.modeling import gguf_metadata as ours

    carried = {key for table in GGUF_CONFIG_MAPPING.values() for key, setting in table.items() if setting is not None}
    assert {key for key in carried if key.startswith("rope.")} <= {"rope.freq_base", "rope.dimension_count"}
    assert set(ours._OFF) <= set(ours._SETTINGS)
