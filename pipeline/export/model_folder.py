"""What lies beside the weights of a model that needs neither adapter nor base: config, tokenizer, stops, licences."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model import untrusted_files
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.stop_tokens import with_stop_ids
from pipeline.common.files import write_json
from pipeline.export import portable
from pipeline.export.generation_config import write_generation_config
from pipeline.export.licences import licence_files
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
