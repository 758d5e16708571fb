"""Which tokenizers were found to be in order, with which texts, so that a look that takes seconds is had once.

Kept beside what is known of architectures; deleting it costs the look. Loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base_model.embedding_rows import embedding_rows
from pipeline.common.cache import cache_folder
from pipeline.common.files import fingerprint, write_json
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

# Raise it when the same tokenizer would be judged otherwise.
_VERSION = 1


def is_in_order(base: BaseModel, texts: Sequence[str]) -> bool:
    """Whether the tokenizer of `base` was found to be in order with these texts, by these libraries."""
    return _stored(base, texts).is_file()


def store(base: BaseModel, texts: Sequence[str]) -> None:
    """Remember that it is; where nothing can be written it is looked at again the next time."""
    path = _stored(base, texts)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"model": base.name, "texts": len(texts)})


def _stored(base: BaseModel, texts: Sequence[str]) -> Path:
    libraries = [version("transformers"), version("tokenizers")]
    name = fingerprint(_VERSION, libraries, tokenizer_fingerprint(base), embedding_rows(base), list(texts))
    return cache_folder("tokenizers") / f"{name}.json"
