"""From a line of the raw file to the documents it is trained as, or why it is not: for preparing rows and for showing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.config import Config
from pipeline.dataset.cleaning import clean
from pipeline.dataset.conversation import Message
from pipeline.dataset.jsonl import Line
from pipeline.dataset.schemas import messages_of
from pipeline.errors import BadInput

if TYPE_CHECKING:
    from pipeline.base_model.draft import Document, Encoded
    from pipeline.base_model.tokenizer import ChatTokenizer

AnyDocument = TypeVar("AnyDocument", "Encoded", "Document")


def conversation_of(line: Line, config: Config) -> tuple[list[Message], set[str]]:
    """The cleaned conversation and what cleaning changed. Raises `BadInput` with the reason a row is rejected for."""
    if line.problem:
        raise BadInput(line.problem)
    return clean(messages_of(line.row, config.data.row_schema))


def documents_of(messages: list[Message], config: Config, tokenizer: ChatTokenizer) -> list[Encoded]:
    """The conversation in tokens, before windows. Raises `BadInput` with the reason a row is rejected for."""
    return fitting_documents(tokenizer.encode_conversation(messages), config)


@dataclass(frozen=True)
class Look:
    """A row as it would be trained. Where it can't be, `reason` says why and the rest is as far as it came.

    Attributes:
        changes: what cleaning changed.
        documents: in tokens, before windows; none without a tokenizer.
    """

    messages: list[Message]
    changes: set[str]
    documents: list[Encoded]
    reason: str = ""


def look_at(line: Line, config: Config, tokenizer: ChatTokenizer | None) -> Look:
    """What would become of one row. Twins are not known here: they take all rows before it."""
    messages: list[Message] = []
    changes: set[str] = set()
    try:
        messages, changes = conversation_of(line, config)
        return Look(messages, changes, documents_of(messages, config, tokenizer) if tokenizer else [])
    except BadInput as problem:
        return Look(messages, changes, [], problem.message)


def fitting_documents(encoded: list[AnyDocument], config: Config) -> list[AnyDocument]:
    """The documents of a conversation, where the config keeps conversations so long. Raises `BadInput` as `documents_of`."""
    if config.data.over_long == "drop" and any(len(document.ids) > config.data.max_seq_len for document in encoded):
        raise BadInput(f"longer than {config.data.max_seq_len} tokens (data.max_seq_len)")
    return encoded
