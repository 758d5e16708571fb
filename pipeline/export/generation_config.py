"""`generation_config.json` of a package: the base model's own, in which answers end as they did in training.

A base model, or one that is given a chat template by name, often names only the token that ends a text.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.stop_tokens import GENERATION_CONFIG, with_stop_ids
from pipeline.common.files import read_json, write_json

_IN_CONFIG = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_generation_config(folder: Path, base: BaseModel, config: dict[str, Any], stop_ids: Collection[int]) -> None:
    """Write it into `folder`.

    Args:
        config: the model's `config.json`, which names the tokens of a base without a file of its own; empty where there is none.
        stop_ids: that end an answer, as `ChatTokenizer.stop_ids`.
    """
    own = base.path / GENERATION_CONFIG
    if base.kind == "folder" and own.is_file():
        document = read_json(own)
    else:
        document = {key: config[key] for key in _IN_CONFIG if config.get(key) is not None}
    document = {key: value for key, value in document.items() if not key.startswith("_from")}
    write_json(folder / GENERATION_CONFIG, with_stop_ids(document, stop_ids))
