"""The tokens that end an answer, as a model's files name them: a list in `generation_config.json`, of which the tokenizer's end
token is one at most.

`ChatTokenizer.stop_ids` adds the terminator of the chat template; whatever decodes asks that.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput

GENERATION_CONFIG = "generation_config.json"
# Of a GGUF file: the end of a text, of a turn, of a message that calls a tool.
_IN_GGUF = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def named_stop_ids(base: BaseModel) -> frozenset[int]:
    """Ids that end an answer by what the base model's files say.

    Raises:
        BadInput: `generation_config.json` is damaged.
    """
    if base.kind == "folder":
        return stop_ids_in(base.path)
    metadata = read_header(base.path).metadata
    return frozenset(_ids([metadata.get(key) for key in _IN_GGUF]))


def stop_ids_in(folder: Path) -> frozenset[int]:
    """The same of a folder, a model's or a package's.

    As transformers has it, `config.json` counts where there is no `generation_config.json`.
    """
    own = _document(folder / GENERATION_CONFIG)
    if own is not None:
        return frozenset(_ids(own.get("eos_token_id")))
    config = _document(folder / "config.json") or {}
    inner = config.get("text_config")
    named = config.get("eos_token_id", inner.get("eos_token_id") if isinstance(inner, dict) else None)
    return frozenset(_ids(named))


def _document(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error})", "humigence model check") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: not a JSON object", "humigence model check")
    return document


def _ids(named: Any) -> list[int]:
    each = named if isinstance(named, list) else [named]
    return [number for number in each if type(number) is int and number >= 0]


def with_stop_ids(document: dict[str, Any], stop_ids: Collection[int]) -> dict[str, Any]:
    """A config, a model's or its generation's, in which all of `stop_ids` end an answer; those it names stay where they are."""
    named = _ids(document.get("eos_token_id"))
    missing = sorted(set(stop_ids) - set(named))
    ids = [*named, *missing]
    return document | {"eos_token_id": ids[0] if len(ids) == 1 else ids} if missing else document
