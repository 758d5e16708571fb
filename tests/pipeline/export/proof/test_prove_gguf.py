"""A proof finds what is wrong with a file, and what is wrong is not packaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.export.formats import gguf as formats
from pipeline.export.gguf import sources
from pipeline.export.gguf import write as writing
from pipeline.export.proof import llama_cpp, prove_gguf
from pipeline.export.proof.proof import LIMITS, NotProved, Proof, compared, require, warning
from tests.pipeline.export.gguf.test_families_exported import made
from tests.pipeline.export.made import needs_llama_cpp, package_of


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("exported")
    base, adapter = made(folder, "smollm2")
    return package_of(folder, base, adapter, "peft_adapter", "gguf_f16")


@needs_llama_cpp
def test_rows_that_are_not_brought_together_are_found(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "interleaved", lambda rows, head: rows)
    with pytest.raises(NotProved, match="nat from base and adapter's"):
        formats.write("gguf_f16", tmp_path, exported, lambda _: None)


@needs_llama_cpp
def test_another_template_is_told_with_both_texts(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file = writing.write_file

    def with_another(path: Path, writer: Any, *rest: Any) -> None:
        writer.add_chat_template("{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}")
        write_file(path, writer, *rest)

    monkeypatch.setattr(writing, "write_file", with_another)
    with pytest.raises(NotProved) as error:
        formats.write("gguf_f16", tmp_path, exported, lambda _: None)
    assert "trained: '<|im_start|>user␊" in error.value.message and "llama.cpp: '<|im_start|>What" in error.value.message


@needs_llama_cpp
def test_an_answer_that_would_never_end_is_found(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_gguf, "_stops", lambda tokenizer: [*sorted(tokenizer.stop_ids), 300])
    with pytest.raises(NotProved, match="goes on after"):
        formats.write("gguf_f16", tmp_path, exported, lambda _: None)


@needs_llama_cpp
def test_a_file_that_does_not_open_is_told_in_llama_cpps_words(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    questions = {
        "model": str(tmp_path / "broken.gguf"),
        "context": 64,
        "threads": 1,
        "conversations": [],
        "rows": [],
        "stops": [],
    }
    with pytest.raises(llama_cpp.DidNotOpen, match="did not open it"):
        llama_cpp.ask(questions, 100)


def test_without_llama_cpp_it_is_written_and_said_to_be_unproved(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "is_there", lambda: False)
    written = formats.write("gguf_f16", tmp_path, exported, lambda _: None)
    assert not Proof.from_json(written.record["proof"]).is_proved
    assert "pip install 'humigence[gguf]'" in warning("gguf_f16", written.record)
    assert "written and not opened: llama.cpp is not installed" in (tmp_path / "gguf_f16" / "README.md").read_text()
    assert formats.is_current(written.record)
    monkeypatch.setattr(llama_cpp, "is_there", lambda: True)
    assert not formats.is_current(written.record), "it can be proved now, and is made again"


def test_figures_beyond_the_limits_are_no_proof() -> None:
    there = np.full(200, -1.0)
    good = compared(there - 0.01, there)
    assert good["loss"] == pytest.approx(1.01) and good["worst"] == pytest.approx(0.01) and good["tokens"] == 200
    assert require("x", Proof(program="p", **good), LIMITS["q8_0"]).is_proved
    with pytest.raises(NotProved, match=r"is 1\.0700 and theirs 1\.0000"):
        require("x", Proof(program="p", **compared(there - 0.07, there)), LIMITS["q8_0"])
    with pytest.raises(NotProved, match="no finite"):
        require("x", Proof(program="p", **compared(there * np.nan, there)), LIMITS["q8_0"])
