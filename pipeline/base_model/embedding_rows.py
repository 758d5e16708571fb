"""How many ids a base model has an embedding for, from its files alone."""

from __future__ import annotations

import json

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.base_model.shape import language_model_config
from pipeline.common.errors import BadInput

_GGUF_EMBEDDING = "token_embd.weight"


def embedding_rows(base: BaseModel) -> int:
    """Rows of the embedding: every id has to be below it. 0 where the files don't say.

    Raises:
        BadInput: the model pads with an id that it has no row for.
    """
    if base.kind == "gguf":
        return int(max(read_header(base.path).tensors.get(_GGUF_EMBEDDING, (0,))[-1], 0))
    config = language_model_config(json.loads((base.path / "config.json").read_text(encoding="utf-8")))
    rows, padding = config.get("vocab_size"), config.get("pad_token_id")
    if type(rows) is not int:
        return 0
    if type(padding) is int and padding >= rows:
        message = f"{base.name}: config.json pads with the id {padding:,}, and the embedding has {rows:,} rows"
        raise BadInput(message, "choose another base model, or set pad_token_id in its config.json to an id that it has")
    return rows
