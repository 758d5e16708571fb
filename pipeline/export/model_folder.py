"""What lies beside the weights of a model that needs neither adapter nor base: config, tokenizer, stops, licences."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model import untrusted_files
from pipeline.base_model.locate import INDEX, BaseModel
from pipeline.base_model.stop_tokens import with_stop_ids
from pipeline.common.files import write_json
from pipeline.export import portable
from pipeline.export.generation_config import write_generation_config
from pipeline.export.licences import licence_files
from pipeline.export.package_folder import differing, link, read_checksums
from pipeline.export.tokenizer_files import write_tokenizer

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

CONFIG = "config.json"
_SENTENCEPIECE = "tokenizer.model"


def write_beside_weights(into: Path, base: BaseModel, tokenizer: ChatTokenizer, config: dict[str, Any]) -> list[str]:
    """Its config, the tokenizer with the chat template that trained, what ends an answer, what comes with the base.

    Returns:
        Names of the licences.
    """
    write_tokenizer(into, base, tokenizer)
    write_generation_config(into, base, config, tokenizer.stop_ids)
    write_json(into / CONFIG, with_stop_ids(_model_config(config), tokenizer.stop_ids))
    for path in _files_along(base):
        if not (into / path.name).exists():
            shutil.copyfile(path, into / path.name)
    return [path.name for path in licence_files(base)]


def are_whole(old: Path, folder: str) -> bool:
    """Whether the weights in a folder of the package at `old` are there as they were packed, every byte."""
    files = _to_take(old, folder)
    # They are taken over, and what a link leads to is not ours.
    return bool(files) and not differing(old, files) and not any((old / name).is_symlink() for name in (folder, *files))


def take_weights(old: Path, new: Path, folder: str) -> dict[str, str]:
    """Give the weights that `are_whole` there a second name in the package at `new`; their digests by name."""
    (new / folder).mkdir()
    digests = _to_take(old, folder)
    digests.pop(f"{folder}/{CONFIG}", None)  # written anew: an older version of ours wrote it for fewer readers
    for name in digests:
        link(old / name, new / name)
    return digests


def _to_take(old: Path, folder: str) -> dict[str, str]:
    """Digests, by name, of weights, index and config, which is written anew from the one there."""
    found = {}
    for name, digest in read_checksums(old).items():
        within, _, file = name.rpartition("/")
        if within == folder and (file.endswith(".safetensors") or file in (INDEX, CONFIG)):
            found[name] = digest
    return found


def _model_config(document: dict[str, Any]) -> dict[str, Any]:
    """Without paths of this machine, and code that a repository wants run: what is merged is a model of transformers' own."""
    kept = {key: value for key, value in document.items() if not key.startswith("_") and key != "auto_map"}
    return portable.model_config(kept)


def _files_along(base: BaseModel) -> list[Path]:
    """Licences, and the vocabulary in the form in which llama.cpp reads it."""
    if base.kind == "gguf":
        return []
    found = [base.path / _SENTENCEPIECE, *licence_files(base)]
    return [path for path in found if path.is_file() and not untrusted_files.leads_out(path, base.path)]
