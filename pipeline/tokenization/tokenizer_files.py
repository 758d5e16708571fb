"""The tokenizer of transformers, read from a base model's files and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model import untrusted_files
from pipeline.common.errors import BadInput
from pipeline.tokenization.gguf_cutting import digits_apart, set_digits_apart
from pipeline.tokenization.tokenizer_copy import read_through_copy

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel


def read_gguf(base: BaseModel) -> Any:
    """Of a GGUF file, cutting texts as the file says. Raises `BadInput` where it can't be read."""
    tokenizer = read_through_copy(base, lambda: _out_of_file(base), lambda folder: read_folder(folder, base.name))
    if digits_apart(base):
        set_digits_apart(tokenizer)
    return tokenizer


def read_folder(folder: Path, name: str) -> Any:
    """Of a Hugging Face folder. Raises `BadInput` where it can't be read, or is not to be trusted."""
    if problems := untrusted_files.file_problems(folder):
        raise BadInput(f"{name}: its tokenizer is not read from {folder}: {problems[0]}", "humigence model check")
    return _read(folder, name)


def _out_of_file(base: BaseModel) -> Any:
    from pipeline.base_model.gguf_reader import read_once

    with read_once():
        return _read(base.path.parent, base.name, gguf_file=base.path.name)


def _read(folder: Path, name: str, **options: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # the tokenizers library raises bare `Exception` for a damaged file
        first_line = (str(error).splitlines() or [""])[0][:300]
        reason = first_line or type(error).__name__
        raise BadInput(f"{name}: its tokenizer can't be read from {folder}: {reason}", "humigence model check") from error
