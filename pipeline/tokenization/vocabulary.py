"""The ids that a tokenizer can give, against the rows of the embedding they are looked up in."""

from __future__ import annotations

import json
from typing import Any

from pipeline.common.errors import BadInput

# Looked up by whoever pads, begins or ends a text.
_HINT = "its tokenizer is of another model or was extended: take the one it was trained with"
_ALWAYS_USED = ("bos_token", "eos_token", "pad_token", "unk_token")


def check_rows(tokenizer: Any, name: str, rows: int) -> bool:
    """Whether every id has a row; False where a special token that nothing is expected to write has none.

    A special token that has none is no fault where nothing writes it: typed by a person it stays text, so it could only come from
    the chat template. Some families share a tokenizer with tokens for images that their text models lack.

    Raises:
        BadInput: an id has no row.
    """
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["content"]: token["id"] for token in document.get("added_tokens") or [] if token["special"]}
    ordinary = {number for token, number in tokenizer.get_vocab().items() if token not in special}
    highest = max(ordinary, default=-1)
    if highest >= rows:
        message = f"{name}: its tokenizer gives ids up to {highest:,}, and the embedding of the model has {rows:,} rows"
        raise BadInput(message, _HINT)
    used = {str(token) for key in _ALWAYS_USED if (token := getattr(tokenizer, key, None)) is not None}
    template = tokenizer.get_chat_template()
    for token, number in special.items():
        if number >= rows and (token in used or token in template):
            message = f"{name}: its special token {token} has the id {number:,}, and the embedding has {rows:,} rows"
            raise BadInput(message, _HINT)
    return all(number < rows for number in special.values())
