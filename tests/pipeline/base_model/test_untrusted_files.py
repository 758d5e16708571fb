"""Model and adapter folders from strangers: nothing in them runs, leads out of them, or takes memory that it lies about."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model import locate, untrusted_files
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import checked_shape
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.config.schema import LoraSection
from pipeline.export import packaged
from pipeline.modeling.adapter import add_adapter, load_adapter
from pipeline.modeling.load import load_base
from pipeline.system.gpu import cpu_device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.processes import environment

WEIGHTS = "model.safetensors"


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model, to be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def refused(folder: Path) -> str:
    """Why the folder is no base model; also where somebody skips the question and loads it."""
    problems = locate.problems_of(folder)
    assert problems, "it is taken for a good one"
    with pytest.raises(BadInput):
        locate.base_model_at(folder)
    return "\n".join(problems)


def load(folder: Path) -> None:
    load_base(BaseModel(folder, "folder", "stranger"), "lora_bf16", cpu_device())


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def with_header(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """The weights file with another header before the same bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


# ------------------------------------------------------------------------------------------------------ code and pickles


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt"])
def test_a_pickle_is_refused_under_any_name(name: str, protocol: int, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark"), protocol) + b"\0" * 64)
    words = refused(folder)
    assert name in words and ("pickle" in words or protocol == 0), words
    with pytest.raises(BadInput):
        load(folder)
    assert not (tmp_path / "mark").exists()


def test_a_zipped_pickle_is_refused_under_the_name_of_safetensors(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / WEIGHTS, "w") as archive:  # as torch.save writes it
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(tmp_path / "mark")))
    assert "is a pickle under the name of safetensors" in refused(folder)


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_a_header(folder: Path, length: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (before,) = struct.unpack("<Q", whole[:8])
    entries = json.loads(whole[8 : 8 + before])
    first = min((key for key in entries if key != "__metadata__"), key=lambda key: entries[key]["data_offsets"])
    header = json.dumps({first: entries[first]}).encode().ljust(length)
    begin, end = entries[first]["data_offsets"]
    path = folder / "other.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header + whole[8 + before + begin : 8 + before + end])
    assert path.read_bytes()[:2] == bytes([0x80, length >> 8]) and untrusted_files.weights_problem(path) == ""


@pytest.mark.parametrize(
    "value", ["pytorch_model.bin", "evil.pkl", "../model.safetensors", "/etc/passwd", "a/b.safetensors", 7, ""]
)
def test_an_index_names_only_safetensors_of_the_folder(value: Any, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(tmp_path / WEIGHTS)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": value}}))
    assert "the index of the weights names" in refused(folder)


def test_code_of_a_model_is_named_and_never_runs(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: pass\n")
    change(folder / "config.json", model_type="evil", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    assert "auto_map: modeling_evil.Evil" in refused(folder)
    change(folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    for use in (load, ChatTokenizer.from_folder):
        try:
            use(folder)
        except BadInput as error:
            assert "Traceback" not in str(error)
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert "tokenizer_config.json asks for its own Python code" in refused(folder)
    with pytest.raises(BadInput):
        ChatTokenizer.from_folder(folder)
    assert not mark.exists() and "evil" not in " ".join(sys.modules)


@pytest.mark.parametrize("name", ["model.zip", "model.tar.gz", "model.7z", "model.safetensors"])
def test_an_archive_is_not_unpacked(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".gz"):
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder / "config.json")
    else:
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.write(folder / "config.json")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="takes a Hugging Face folder"):
        locate.base_model_at(path)
    assert sorted(tmp_path.rglob("*")) == before


# --------------------------------------------------------------------------------------------------- links and sizes


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("how", ["absolute", "relative", "dangling", "loop"])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, how: str, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    if (folder / name).exists():
        (folder / name).rename(secret)
    else:
        secret.write_text("x")
    target = {"absolute": str(secret), "relative": "../secret.json", "dangling": "nowhere", "loop": name}[how]
    (folder / name).symlink_to(target)
    if how in ("absolute", "relative"):
        assert f"{name} is a link that leads out of the folder, to {secret}" in refused(folder)
        with pytest.raises(BadInput):
            ChatTokenizer.from_folder(folder) if "token" in name or "template" in name else load_checked(folder)
    elif name in ("config.json", WEIGHTS):
        refused(folder)


def load_checked(folder: Path) -> None:
    load_base(locate.base_model_at(folder), "lora_bf16", cpu_device())


def test_a_link_inside_the_folder_and_the_blobs_of_a_hub_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "the weights")
    (folder / WEIGHTS).symlink_to("the weights")
    assert locate.problems_of(folder) == []
    repository = tmp_path / "models--owner--name"
    (repository / "snapshots").mkdir(parents=True)
    shutil.copytree(folder, repository / "blobs")
    (repository / "snapshots" / "abc").mkdir()
    for file in (repository / "blobs").iterdir():
        (repository / "snapshots" / "abc" / file.name).symlink_to(f"../../blobs/{file.name}")
    assert locate.problems_of(repository / "snapshots" / "abc") == []
    assert locate.problems_of(Path(shutil.copytree(folder, tmp_path / "link" / "deep"))) == []


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json"]
)
def test_a_file_of_absurd_size_is_not_read(name: str, folder: Path) -> None:
    with (folder / name).open("ab") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    assert f"{name} has 1,048,576 MiB; none in use has more than" in refused(folder)
    with pytest.raises(BadInput, match="1,048,576 MiB"):
        ChatTokenizer.from_folder(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "null", "7", "{", "\0", '{"hidden_size": 1e999}', "[]"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_none_or_is_nested_without_end_is_bad_input(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    with pytest.raises(BadInput):
        base = locate.base_model_at(folder)
        ChatTokenizer.load(base)
        load_base(base, "lora_bf16", cpu_device())


# ------------------------------------------------------------------------------------------------- headers that lie


def _first(header: dict[str, Any]) -> dict[str, Any]:
    tensor: dict[str, Any] = header["lm_head.weight"]
    return tensor


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a huge shape": lambda header: _first(header).update(shape=[1 << 40, 1 << 40]),
    "a negative shape": lambda header: _first(header).update(shape=[-640, -64]),
    "another shape": lambda header: _first(header).update(shape=[640, 65]),
    "a text for a shape": lambda header: _first(header).update(shape="640"),
    "a fraction": lambda header: _first(header).update(shape=[640.0, 64]),
    "another type": lambda header: _first(header).update(dtype="F64"),
    "an unknown type": lambda header: _first(header).update(dtype="PICKLE"),
    "offsets backwards": lambda header: _first(header).update(data_offsets=_first(header)["data_offsets"][::-1]),
    "offsets beyond": lambda header: _first(header).update(data_offsets=[1 << 60, (1 << 60) + 163840]),
    "offsets of nothing": lambda header: _first(header).update(data_offsets=[]),
    "shared bytes": lambda header: _first(header).update(data_offsets=header["model.norm.weight"]["data_offsets"], shape=[64]),
    "a gap": lambda header: header.pop("lm_head.weight"),
    "no object": lambda header: header.update({"lm_head.weight": 7}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_contradicts_its_bytes_is_refused(lie: str, folder: Path) -> None:
    with_header(folder / WEIGHTS, LIES[lie])
    words = refused(folder)
    assert f"{WEIGHTS} is damaged" in words or f"{WEIGHTS} is cut short" in words


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, struct.pack("<Q", 1 << 63), struct.pack("<Q", (1 << 64) - 1) + b"{}", struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200_000) + b"[" * 200_000, struct.pack("<Q", 20) + b'{"a": 1, "a": 2}    ',
        struct.pack("<Q", 4) + b"\xff" * 4,
        struct.pack("<Q", 17 << 20) + b" " * (17 << 20),
    ],
    ids=["empty", "seven", "huge", "all ones", "list", "nested", "twice", "bytes", "17 MiB"],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(data: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(data)
    assert f"{WEIGHTS} is damaged" in refused(folder)


def test_the_real_weights_are_believed(folder: Path, tiny_chatml_model: Path) -> None:
    assert untrusted_files.weights_problem(folder / WEIGHTS) == untrusted_files.weights_problem(tiny_chatml_model / WEIGHTS) == ""


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": -64}, {"hidden_size": 0}, {"hidden_size": 1 << 40}, {"hidden_size": 64.5}, {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -2}, {"vocab_size": 1 << 62}, {"intermediate_size": 1 << 23}, {"num_attention_heads": 0},
        {"vocab_size": 16_000_000}, {"num_hidden_layers": 9999}, {"hidden_size": 1 << 20, "head_dim": 16},
        {"max_position_embeddings": 10**15}, {"num_key_value_heads": -1}, {"num_attention_heads": 10**9},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_lies_about_sizes_takes_no_memory(sizes: dict[str, Any], folder: Path) -> None:
    change(folder / "config.json", **sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=r"no size of a model|parameters, the weights hold"):
        checked_shape(BaseModel(folder, "folder", "stranger"))
    with pytest.raises(BadInput):
        load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


@pytest.mark.parametrize(
    "values",
    [
        {"rope_scaling": "x"}, {"hidden_act": "evil"}, {"hidden_act": 7}, {"model_type": "../x"}, {"model_type": 7},
        {"architectures": 7},
        {"rms_norm_eps": "x"}, {"num_key_value_heads": 3}, {"pad_token_id": 10**12}, {"dtype": "evil"}, {"torch_dtype": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_makes_no_model_is_bad_input_or_harmless(values: dict[str, Any], folder: Path) -> None:
    change(folder / "config.json", **values)
    try:
        load(folder)
    except BadInput as error:
        assert "stranger" in error.message or "config.json" in error.message


# --------------------------------------------------------------------------------------------------------------- GGUF


def gguf(path: Path, *entries: bytes, tensors: bytes = b"", counts: tuple[int, int] | None = None) -> Path:
    tensor_count, entry_count = counts or (1, len(entries))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensor_count, entry_count) + b"".join(entries) + tensors)
    return path


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def array(inner: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<IQ", inner, count) + data


@pytest.mark.parametrize(
    ("entries", "counts"),
    [
        ((), (1 << 63, 0)),
        ((), (0, 1 << 63)),
        ((), (1 << 17, 0)),
        ((entry("a", 8, struct.pack("<Q", 1 << 62)),), None),
        ((entry("a", 9, array(8, 1 << 60)),), None),
        ((entry("a", 9, array(8, 1 << 22)),), None),
        ((entry("a", 9, array(0, 1 << 23)),), None),
        ((entry("tokenizer.ggml.tokens", 9, array(8, 1, struct.pack("<Q", 1 << 26))),), None),
        ((entry("a", 9, array(9, 1) * 2000),), None),
        ((entry("a", 9, array(9, 1 << 22, array(9, 0))),), None),
        ((entry("a", 99, b""),), None),
        ((entry("a", 9, array(77, 1)),), None),
        ((struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc" + b"\0" * 30,), None),
    ],
)
def test_a_gguf_header_that_lies_is_refused_at_once(
    entries: tuple[bytes, ...], counts: tuple[int, int] | None, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="damaged or cut short"):
        read_header(gguf(tmp_path / "x.gguf", *entries, counts=counts))


@pytest.mark.parametrize("value", [0, 1 << 31, -5, float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["embedding_length", "block_count", "attention.head_count", "feed_forward_length"])
def test_sizes_in_gguf_metadata_that_are_none_are_refused(key: str, value: float, tmp_path: Path) -> None:
    sizes: dict[str, float] = {"embedding_length": 64, "block_count": 2, "attention.head_count": 4, "feed_forward_length": 128}
    entries = [entry("general.architecture", 8, struct.pack("<Q", 5) + b"llama")]
    for name, size in (sizes | {key: value}).items():
        data = struct.pack("<i", size) if isinstance(size, int) and size < 1 << 31 else struct.pack("<f", size)
        entries.append(entry(f"llama.{name}", 5 if len(data) and isinstance(size, int) and size < 1 << 31 else 6, data))
    tensor = struct.pack("<Q", 17) + b"token_embd.weight" + struct.pack("<I2QIQ", 2, 64, 640, 0, 0)
    path = gguf(tmp_path / "x.gguf", *entries, tensors=tensor + b"\0" * 64)
    with pytest.raises(BadInput):
        checked_shape(BaseModel(path, "gguf", "stranger"))


# ----------------------------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    base = load_base(BaseModel(tiny_model, "folder", "tiny"), "lora_bf16", cpu_device())
    add_adapter(base, LoraSection(r=4), 0).save_pretrained(folder)
    return folder


HOSTILE_ADAPTERS: dict[str, dict[str, Any]] = {
    "a rank without end": {"r": 10**9},
    "a negative rank": {"r": -4},
    "another rank": {"r": 8},
    "layers a million times": {"layer_replication": [[0, 2]] * 1_000_000},
    "a module to import": {"megatron_config": {"x": 1}, "megatron_core": "evil"},
    "a costly start": {"init_lora_weights": "pissa"},
    "modules saved": {"modules_to_save": ["lm_head"]},
    "a pattern of names": {"target_modules": "(a+)+$"},
    "ranks by pattern": {"rank_pattern": {"(a+)+$": 1024}},
    "another kind": {"peft_type": "PROMPT_TUNING"},
    "no kind": {"peft_type": None},
    "unknown": {"evil_option": {"run": "this"}},
    "no modules": {"target_modules": []},
    "other modules": {"target_modules": ["evil"]},
}


@pytest.mark.parametrize("name", HOSTILE_ADAPTERS)
def test_an_adapter_that_asks_for_more_than_plain_lora_is_refused(
    name: str, adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    change(folder / "adapter_config.json", **HOSTILE_ADAPTERS[name])
    model = load_base(BaseModel(tiny_model, "folder", "tiny"), "lora_bf16", cpu_device())
    with pytest.raises(BadInput, match="no adapter for this model"):
        load_adapter(model, folder)


def test_an_adapters_pickles_links_and_lies_are_refused(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    mark, weights = tmp_path / "mark", "adapter_model.safetensors"
    good = Path(shutil.copytree(adapter, tmp_path / "good"))
    (good / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    model = load_base(BaseModel(tiny_model, "folder", "tiny"), "lora_bf16", cpu_device())
    load_adapter(model, good)  # the pickle beside it is not looked at
    for spoil in ("pickle only", "pickle inside", "link", "lie"):
        folder = Path(shutil.copytree(adapter, tmp_path / spoil))
        whole = (folder / weights).read_bytes()
        (folder / weights).unlink()
        if spoil == "pickle only":
            (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
        elif spoil == "pickle inside":
            (folder / weights).write_bytes(pickle.dumps(Bomb(mark)))
        elif spoil == "link":
            (folder / weights).symlink_to(adapter / weights)
        else:
            (folder / weights).write_bytes(whole[:-8])
        base = load_base(BaseModel(tiny_model, "folder", "tiny"), "lora_bf16", cpu_device())
        with pytest.raises(BadInput, match="no adapter for this model"):
            load_adapter(base, folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "base",
    [
        {"name": 7, "path": None, "repo": "a/b", "revision": None, "weights_fingerprint": ""},
        {"name": "x", "path": None, "repo": "a/b", "revision": "../../../../etc", "weights_fingerprint": ""},
        {"name": "x", "path": None, "repo": "a/b", "revision": "/etc/passwd", "weights_fingerprint": ""},
        {"name": "x", "path": ["/etc"], "repo": None, "revision": None, "weights_fingerprint": ""},
        {"name": "x"},
        7,
    ],
)
def test_a_package_that_lies_about_its_base_model_is_told_and_reads_nothing_else(
    base: Any, adapter: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "package"))
    (folder / "humigence.json").write_text(json.dumps({"format_version": 1, "base": base}))
    with pytest.raises((MissingArtifact, BadInput)):
        packaged.read_packaged(folder)


# ---------------------------------------------------------------------------------------------------- the whole command

_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from humigence_tui.cli.main import main
sys.exit(main(["validate", "--config", "c.json"]))
"""


def test_validate_names_what_is_wrong_with_a_strangers_model(folder: Path, workspace: Path) -> None:
    (workspace / "rows.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    (workspace / "c.json").write_text(json.dumps({"model": {"local_path": str(folder)}, "data": {"raw_path": "rows.jsonl"}}))
    change(folder / "config.json", num_hidden_layers=9000)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED],
        cwd=workspace,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "parameters, the weights hold" in done.stderr, done.stderr
