"""The second start reads a copy of a GGUF file's tokenizer: the same one, or none."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from pipeline.tokenization.tokenizer_copy import folder_of, read_through_copy
from tests import tiny

TEXT = "What is  the capital of France?\n Paris, 1789"


class File:
    """A GGUF file whose tokenizer is made anew at each reading."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.gguf"
        self.path.write_bytes(b"weights")
        tiny.save_tokenizer(folder / "source", template=tiny.CHATML, llama=False)
        self.base: Any = SimpleNamespace(path=self.path, own_tokenizer_fingerprint=lambda: "vocabulary")
        self.read = 0

    def from_file(self) -> Any:
        self.read += 1
        return AutoTokenizer.from_pretrained(self.path.parent / "source")

    def tokenizer(self, from_folder: Any = AutoTokenizer.from_pretrained) -> Any:
        return read_through_copy(self.base, self.from_file, from_folder)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return File(tmp_path)


def test_the_second_time_the_file_is_not_read_and_the_tokens_are_the_same(file: File) -> None:
    first, second = file.tokenizer(), file.tokenizer()
    assert file.read == 1
    assert first.encode(TEXT) == second.encode(TEXT) and first.chat_template == second.chat_template
    os.utime(file.path, ns=(1, 1))  # another file under this name
    file.tokenizer()
    assert file.read == 2


def test_a_damaged_copy_counts_as_none(file: File) -> None:
    wanted = file.tokenizer().encode(TEXT)
    damaged = folder_of(file.base) / "tokenizer.json"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert file.tokenizer().encode(TEXT) == wanted and file.read == 2
    assert file.tokenizer().encode(TEXT) == wanted and file.read == 2  # a new copy


def test_what_would_be_read_as_another_tokenizer_is_not_kept(file: File) -> None:
    def other(folder: Path) -> Any:
        read = AutoTokenizer.from_pretrained(folder)
        read.add_tokens(["<another>"])
        return read

    file.tokenizer(other)
    assert not folder_of(file.base).exists()
    file.tokenizer(other)
    assert file.read == 2
