"""Every family of the table, written as GGUF and opened by llama.cpp: the ids, the log-probabilities, the stops are its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from pipeline.base_model.gguf_families import GGUF_FAMILIES, gguf_refusal
from pipeline.base_model.locate import BaseModel, base_model_at
from pipeline.common.errors import BadInput
from pipeline.export.formats.gguf import GGUF_FORMATS, kind_of, write
from pipeline.export.proof.proof import LIMITS, Proof
from tests import families, tiny
from tests.pipeline.export.made import needs_llama_cpp, package_of
from tests.pipeline.export.merge.adapters import save_adapter

_SIX = {"num_hidden_layers": 6, "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
# family -> changes of its tiny model: 16 tokens are less than any prompt, and llama.cpp knows one pattern of Gemma 3's layers.
WRITTEN: dict[str, dict[str, Any]] = {
    "llama-2": {}, "llama-3": {}, "smollm2": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "smollm3": {}, "phi3": {},
    "phi4-mini": {}, "olmo2": {}, "granite": {}, "gemma3-text": _SIX, "gemma3": _SIX,
}  # fmt: skip
# Of Qwen 2 because its tokenizer makes one character of a letter and its accent, and llama.cpp doesn't.
REPRESENTATIVES = {("smollm2", "gguf_q8_0"), ("llama-3", "gguf_f16"), ("qwen3", "gguf_q4_0"), ("qwen2", "gguf_q8_0")}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def _targets(family: str) -> tuple[str, ...]:
    return ("qkv_proj", "o_proj", "gate_up_proj") if family.startswith("phi") else (*ATTENTION, "up_proj", "down_proj")


def _cells() -> list[Any]:
    return [
        pytest.param(family, name, id=f"{family}-{name}", marks=() if (family, name) in REPRESENTATIVES else pytest.mark.matrix)
        for family in WRITTEN
        for name in GGUF_FORMATS
    ]


def made(folder: Path, family: str, **changes: Any) -> tuple[BaseModel, Path]:
    """A family's tiny model, and an adapter that does something."""
    base = families.save(family, folder / "base", **WRITTEN[family] | changes)
    save_adapter(folder / "adapter", base, _targets(family))
    return base_model_at(base), folder / "adapter"


@needs_llama_cpp
@pytest.mark.parametrize(("family", "name"), _cells())
def test_llama_cpp_reads_the_model_that_base_and_adapter_make(tmp_path: Path, family: str, name: Any) -> None:
    base, adapter = made(tmp_path, family)
    written = write(name, tmp_path, package_of(tmp_path, base, adapter, "peft_adapter", name), lambda _: None)
    proof = Proof.from_json(written.record["proof"])
    assert proof.is_proved and proof.tokens >= 200 and proof.prompts >= 10
    assert bool(proof.notes) is (family == "qwen2"), "what llama.cpp does otherwise is said"
    assert proof.mean <= {"f16": 0.01, "bf16": 0.02, "q8_0": 0.03}.get(kind_of(name), LIMITS[kind_of(name)].mean)


def test_each_family_of_the_table_is_tried(tmp_path: Path) -> None:
    tried = {families.FAMILIES[name].model_type for name in WRITTEN}
    assert tried == set(GGUF_FAMILIES)


@pytest.mark.parametrize("family", ["mixtral", "bloom"])
def test_a_family_that_is_not_written_is_refused_with_a_sentence(tmp_path: Path, family: str) -> None:
    base = base_model_at(families.save(family, tmp_path / "base"))
    assert families.FAMILIES[family].model_type in gguf_refusal(base) and "merged is" in gguf_refusal(base)


def test_what_llama_cpp_computes_otherwise_is_refused_and_not_written_wrong(tmp_path: Path) -> None:
    base = families.save("gemma3-text", tmp_path / "gemma")  # each second layer sees everything
    assert "each sixth layer" in gguf_refusal(base_model_at(base))
    other = families.save("smollm3", tmp_path / "smollm3", no_rope_layers=[1, 1, 0, 1])
    assert "each fourth layer" in gguf_refusal(base_model_at(other))


@needs_llama_cpp
def test_the_file_says_what_it_is_how_it_is_spoken_to_and_where_an_answer_ends(tmp_path: Path) -> None:
    base, adapter = made(tmp_path, "smollm2")
    (base.path / "LICENSE").write_text("as is")
    package = package_of(tmp_path, base, adapter, "peft_adapter", "gguf_q4_0")
    write("gguf_q4_0", tmp_path, package, lambda _: None)
    reader = gguf.GGUFReader(tmp_path / "gguf_q4_0" / "made-q4_0.gguf")
    said = {key: field.contents() for key, field in reader.fields.items()}
    assert said["tokenizer.chat_template"] == tiny.CHATML and said["tokenizer.ggml.eos_token_id"] == 2
    assert said["general.name"] == "made" and said["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_0
    held = {each.name: each.tensor_type.name for each in reader.tensors}
    assert held["token_embd.weight"] == "Q8_0" and held["blk.0.ffn_up.weight"] == "Q4_0" and held["output_norm.weight"] == "F32"
    assert (tmp_path / "gguf_q4_0" / "LICENSE").read_text() == "as is"
    card = (tmp_path / "gguf_q4_0" / "README.md").read_text()
    assert "opened by llama.cpp" in card.lower() and "nat apart on average" in card and "llama-cli -m made-q4_0.gguf" in card


def test_a_vocabulary_that_llama_cpp_would_cut_otherwise_is_refused(tmp_path: Path) -> None:
    base, adapter = made(tmp_path, "smollm2")
    tiny.save_tokenizer(base.path, template=tiny.CHATML.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>"))
    with pytest.raises(BadInput, match=r"joins .* from some of its parts"):
        write("gguf_f16", tmp_path, package_of(tmp_path, base, adapter, "peft_adapter", "gguf_f16"), lambda _: None)


def test_a_template_without_a_beginning_of_text_gets_none_from_llama_cpp_either(tmp_path: Path) -> None:
    """As TinyLlama's: its tokenizer puts one before a text, its chat template doesn't, and none was trained."""
    base, adapter = made(tmp_path, "smollm2")
    document = json.loads((base.path / "tokenizer.json").read_text())
    begin = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    ids = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    document["post_processor"] = {
        "type": "TemplateProcessing", "single": [begin, text], "pair": [begin, text, text], "special_tokens": ids,
    }  # fmt: skip
    (base.path / "tokenizer.json").write_text(json.dumps(document))
    for template, adds in ((tiny.CHATML, False), ("{{ bos_token }}" + tiny.CHATML, True)):
        (base.path / "chat_template.jinja").write_text(template)
        folder = tmp_path / str(adds)
        folder.mkdir()
        written = write("gguf_f16", folder, package_of(tmp_path, base, adapter, "peft_adapter", "gguf_f16"), lambda _: None)
        assert Proof.from_json(written.record["proof"]).is_proved
        reader = gguf.GGUFReader(folder / "gguf_f16" / "made-f16.gguf")
        assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is adds
