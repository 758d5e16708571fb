"""The adapter alone as a GGUF file: beside a file of the base, llama.cpp computes what base and adapter do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import BadInput
from pipeline.export.formats import gguf_lora
from pipeline.export.formats.registry import FORMATS
from pipeline.export.gguf import lora
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.proof.proof import NotProved, Proof
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.pipeline.export.gguf.test_families_exported import WRITTEN, made
from tests.pipeline.export.made import package_of
from tests.pipeline.export.made import write as write_whole
from tests.pipeline.export.merge.adapters import save_adapter

REPRESENTATIVES = ("smollm2", "qwen3")


@pytest.mark.parametrize(
    "family", [pytest.param(each, marks=() if each in REPRESENTATIVES else pytest.mark.matrix) for each in WRITTEN]
)
def test_llama_cpp_adds_the_adapter_to_the_base_as_it_computes(tmp_path: Path, family: str) -> None:
    base, adapter = made(tmp_path, family)
    package = package_of(tmp_path, base, adapter, "peft_adapter", "gguf_lora")
    proof = Proof.from_json(gguf_lora.write(tmp_path, package, lambda _: None).record["proof"])
    assert proof.is_proved and proof.tokens >= 200 and proof.mean < 0.03
    assert sorted(path.name for path in (tmp_path / "gguf_lora").iterdir()) == ["README.md", "made-lora.gguf"]
    assert "--lora made-lora.gguf" in (tmp_path / "gguf_lora" / "README.md").read_text()


def test_an_adapter_of_a_gguf_base_is_proved_beside_that_very_file(tmp_path: Path) -> None:
    folder, adapter = made(tmp_path, "smollm2")
    file = tmp_path / "base.gguf"
    write_gguf(file, folder, None, ChatTokenizer.load(folder), Made("base"), "q8_0", lambda _: None)
    package = package_of(tmp_path, base_model_at(file), adapter, "peft_adapter", "gguf_lora")
    written = gguf_lora.write(tmp_path, package, lambda _: None)
    assert Proof.from_json(written.record["proof"]).mean < 0.03 and file.is_file()
    assert "beside the base model's own file" in (tmp_path / "gguf_lora" / "README.md").read_text()


def test_rows_that_are_not_where_the_bases_are_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = made(tmp_path, "smollm2")
    monkeypatch.setattr(lora, "_as_held", lambda up, *_: up)
    package = package_of(tmp_path, base, adapter, "peft_adapter", "gguf_lora")
    with pytest.raises(NotProved, match="nat from base and adapter's"):
        gguf_lora.write(tmp_path, package, lambda _: None)


def test_the_file_is_taken_over_where_nothing_changed(tmp_path: Path) -> None:
    base, adapter = made(tmp_path, "smollm2")
    package = package_of(tmp_path, base, adapter, "peft_adapter", "gguf_lora")
    old, manifest = _packaged(tmp_path, package)
    reuse = FORMATS["gguf_lora"].reuse
    assert reuse and reuse.ready(old, manifest, package)
    new = tmp_path / "new"
    new.mkdir()
    taken = reuse.take(new, package, old).record
    assert Proof.from_json(taken["proof"]) == Proof.from_json(manifest["gguf_lora"]["proof"]) and reuse.ready(
        old, {"gguf_lora": taken}, package
    )
    assert (new / "gguf_lora" / "made-lora.gguf").samefile(old / "gguf_lora" / "made-lora.gguf")
    shutil.copyfile(__file__, old / "gguf_lora" / "made-lora.gguf")
    assert not reuse.ready(old, manifest, package)


def _packaged(folder: Path, package: Any) -> tuple[Path, dict[str, Any]]:
    from pipeline.common.files import read_json

    old = write_whole(folder, package)
    return old, read_json(old / "humigence.json")


def test_dora_is_refused(tmp_path: Path) -> None:
    base, _ = made(tmp_path, "smollm2")
    save_adapter(tmp_path / "dora", base.path, ("q_proj",), use_dora=True)
    with pytest.raises(BadInput, match="no DoRA adapter"):
        lora.write_lora(tmp_path / "x.gguf", base, Adapter(tmp_path / "dora"), "x", lambda _: None)
