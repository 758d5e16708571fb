"""The tokenizer of a package: the base model's own files, byte for byte, with what has to differ changed and nothing else.

A tokenizer saved anew describes itself in the terms of the library that loaded it; the base's own files are read by everybody
since they were published. It is saved anew where there are none (a GGUF file, a vocabulary without `tokenizer.json`), and where
they make other tokens than the tokenizer that trained.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model import untrusted_files
from pipeline.base_model.locate import TOKENIZER_FILES, BaseModel
from pipeline.common.files import read_json, write_json
from pipeline.export import portable

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_CONFIG, _SPECIAL, _VOCABULARY = "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"
_TEMPLATE, _TEMPLATES = "chat_template.jinja", "chat_templates"
# Older places of a template, which would contradict one that is chosen by name.
_OTHER_TEMPLATES = ("chat_template.json",)


def write_tokenizer(folder: Path, base: BaseModel, tokenizer: ChatTokenizer) -> None:
    """Write the tokenizer that trained, with its chat template, into `folder`.

    Args:
        tokenizer: of `base`, with the template it trains with.
    """
    if base.kind == "folder" and tokenizer.reads_as(base.path / _VOCABULARY):
        _copy(base.path, folder)
    else:
        tokenizer.save(folder)
    if base.template != "auto":
        _put_template(folder, tokenizer)
    _change(folder / _CONFIG, portable.tokenizer_config)


def _copy(source: Path, folder: Path) -> None:
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    names += [f"{_TEMPLATES}/{path.name}" for path in sorted((source / _TEMPLATES).glob("*.jinja"))]
    for name in names:
        if not untrusted_files.leads_out(source / name, source):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)


def _put_template(folder: Path, tokenizer: ChatTokenizer) -> None:
    """The named template in place of the base's own, and its terminator as the token that ends a text."""
    for name in _OTHER_TEMPLATES:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / _TEMPLATES, ignore_errors=True)
    (folder / _TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")
    # Readers of the file alone and of the config alone find the same one.
    changes: dict[str, Any] = {"chat_template": tokenizer.chat_template}
    if len(tokenizer.terminator_ids) == 1:
        changes["eos_token"] = tokenizer.decode(list(tokenizer.terminator_ids), keep_special=True)
    _change(folder / _CONFIG, lambda document: document | changes)
    if (folder / _SPECIAL).is_file() and "eos_token" in changes:
        _change(folder / _SPECIAL, lambda document: document | {"eos_token": changes["eos_token"]})


def _change(path: Path, change: Any) -> None:
    """Write a JSON document anew, only where that says something else."""
    before = read_json(path) if path.is_file() else {}
    after = change(dict(before))
    if after != before:
        write_json(path, after)
