"""What changes when the same conversation would become other tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.files import fingerprint
from pipeline.tokenization.gguf_cutting import digits_apart
from pipeline.tokenization.templates import chosen_for

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel


def tokenizer_fingerprint(base: BaseModel) -> str:
    """Changes with the vocabulary, its settings, the chat template, whoever's it is, or whether it is to have the model think."""
    found = base.own_tokenizer_fingerprint()
    if digits_apart(base):
        found = fingerprint("digits apart", found)
    if source := chosen_for(base).source:
        found = fingerprint("template", found, source)
    return found if base.thinking == "auto" else fingerprint("thinking", found, base.thinking)
