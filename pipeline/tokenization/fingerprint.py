"""What changes when the same conversation would become other tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.files import fingerprint
from pipeline.tokenization.templates import TEMPLATES

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel


def tokenizer_fingerprint(base: BaseModel) -> str:
    """Changes with the vocabulary, its settings or the chat template, also where the template is one of ours."""
    own = base.own_tokenizer_fingerprint()
    return own if base.template == "auto" else fingerprint("template", own, TEMPLATES[base.template].jinja)
