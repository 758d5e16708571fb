"""A package's tokenizer: the base's own files, and a template chosen by name with the token that ends its turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import BaseModel
from pipeline.export.generation_config import write_generation_config
from pipeline.export.tokenizer_files import write_tokenizer
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny

_CHAT = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    """A base model as it is published: its end token ends a text, it has no template; vocabulary and config are not ours."""
    folder = tmp_path / "base"
    tiny.save_tokenizer(folder, template=tiny.CHATML, llama=False)
    (folder / "chat_template.jinja").unlink()
    _change(
        folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", eos_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"], extra_special_tokens=None,
        pad_token="<|endoftext|>", own="kept",
    )  # fmt: skip
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<|endoftext|>", "pad_token": "<|endoftext|>"}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 0}')
    (folder / "generation_config.json").write_text('{"eos_token_id": 0, "top_p": 0.8}')
    return BaseModel(folder, "folder", "base")


def _change(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))


def written(base: BaseModel, into: Path) -> Path:
    into.mkdir()
    tokenizer = ChatTokenizer.load(base)
    write_tokenizer(into, base, tokenizer)
    write_generation_config(into, base, {}, tokenizer.stop_ids)
    return into


def test_a_base_with_a_template_of_its_own_is_taken_over_byte_for_byte(base: BaseModel, tmp_path: Path) -> None:
    (base.path / "chat_template.jinja").write_text(tiny.CHATML)
    package = written(base, tmp_path / "package")
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "merges.txt", "chat_template.jinja")
    for name in names:
        assert (package / name).read_bytes() == (base.path / name).read_bytes(), name
    assert {path.name for path in package.iterdir()} == {*names, "generation_config.json"}


def test_a_template_chosen_by_name_ends_where_it_was_trained_to_end(base: BaseModel, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    chosen = replace(base, template="chatml")
    package = written(chosen, tmp_path / "package")
    found, trained = AutoTokenizer.from_pretrained(package), ChatTokenizer.load(chosen)
    assert found.eos_token == "<|im_end|>" and found.pad_token == "<|endoftext|>"
    ids = found.apply_chat_template(_CHAT, add_generation_prompt=True, return_dict=False)
    assert ids == trained.encode_prompt(_CHAT)  # type: ignore[arg-type]
    assert GenerationConfig.from_pretrained(package).eos_token_id == [0, 2]
    before, after = (json.loads((folder / "tokenizer_config.json").read_text()) for folder in (base.path, package))
    assert {name for name in after if after[name] != before.get(name)} == {
        "eos_token",
        "chat_template",
    } and before.keys() <= after.keys()
    assert (package / "tokenizer.json").read_bytes() == (base.path / "tokenizer.json").read_bytes()
    assert ChatTokenizer.from_folder(package).stop_ids == trained.stop_ids == {0, 2}


@pytest.mark.parametrize(
    "place", ["chat_template.jinja", "chat_template.json", "chat_templates/default.jinja", "tokenizer_config.json"]
)
def test_no_older_template_stands_beside_the_chosen_one(base: BaseModel, tmp_path: Path, place: str) -> None:
    (base.path / place).parent.mkdir(exist_ok=True)
    if place == "tokenizer_config.json":
        _change(base.path / place, chat_template=tiny.ZEPHYR)
    else:
        (base.path / place).write_text(json.dumps({"chat_template": tiny.ZEPHYR}) if place.endswith("json") else tiny.ZEPHYR)
    package = written(replace(base, template="chatml"), tmp_path / "package")
    for path in package.rglob("*"):
        assert path.is_dir() or b"<|user|>" not in path.read_bytes(), path


def test_files_that_make_other_tokens_than_trained_are_not_taken_over(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class may build another tokenizer than the file describes; what trained is what is shipped."""
    from tokenizers import Tokenizer, normalizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    (base.path / "chat_template.jinja").write_text(tiny.CHATML)
    load = AutoTokenizer.from_pretrained

    def another(folder: str, **options: Any) -> Any:
        found = load(folder, **options)
        backend = Tokenizer.from_str(found.backend_tokenizer.to_str())
        backend.normalizer = normalizers.Lowercase()
        named = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "chat_template": tiny.CHATML}
        return PreTrainedTokenizerFast(tokenizer_object=backend, **named)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", another)
    package = written(base, tmp_path / "package")
    monkeypatch.undo()
    trained = ChatTokenizer.load(base)
    assert AutoTokenizer.from_pretrained(package)("HELLO")["input_ids"] == trained._tokenizer("HELLO")["input_ids"]
    assert trained._tokenizer("HELLO")["input_ids"] == trained._tokenizer("hello")["input_ids"]


def test_a_tokenizer_that_transformers_5_saved_is_read_by_others(tmp_path: Path) -> None:
    tiny.save_tokenizer(tmp_path / "base", template=tiny.CHATML, llama=False)
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama"}')
    package = written(BaseModel(tmp_path / "base", "folder", "base"), tmp_path / "package")
    found = json.loads((package / "tokenizer_config.json").read_text())
    assert found["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert found["additional_special_tokens"] == ["<|im_start|>"] and not isinstance(found.get("extra_special_tokens"), list)
