"""From a row of the raw file to the documents it is trained as, or why it is not: for preparing rows and for showing them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, RowSchema
from pipeline.dataset.cleaning import clean, digest
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.schemas.registry import fitting, schema
from pipeline.tokenization.messages import Conversation, as_conversation

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.label_spans import Document, Draft, Encoded, Tokenized

NOTHING_SAID = Conversation(())
AnyDocument = TypeVar("AnyDocument", "Encoded", "Document")


def conversation_of(raw: RawRow, config: Config) -> tuple[Conversation, set[str]]:
    """The cleaned conversation and what cleaning changed. Raises `BadInput` with the reason a row is rejected for."""
    if raw.problem:
        raise BadInput(raw.problem)
    written = as_conversation(schema(config.data.row_schema).messages(raw.row))
    messages, changes = clean(written.messages)
    return Conversation(tuple(messages), written.tools, written.arguments), changes


@dataclass(frozen=True, slots=True)
class Drafted:
    """A row of many on its way: rejected (`problem`), drafted, or with neither the twin of an earlier one."""

    number: int
    schema: RowSchema | None
    place: str = ""
    problem: str = ""
    name: bytes = b""
    conversation: Conversation = NOTHING_SAID
    changes: frozenset[str] = frozenset()
    drafts: tuple[Draft, ...] = ()


def drafted(raw: RawRow, config: Config, tokenizer: ChatTokenizer, met: Container[bytes]) -> Drafted:
    """The row, all done but the tokens. `met` are the digests of conversations that stand further up."""
    schema = fitting(raw.row)
    try:
        conversation, changes = conversation_of(raw, config)
        name = digest(conversation)
        if name in met:
            return Drafted(raw.number, schema, raw.place, name=name)
        drafts = tuple(tokenizer.drafts(conversation))
    except BadInput as problem:
        return Drafted(raw.number, schema, raw.place, problem.message)
    return Drafted(raw.number, schema, raw.place, "", name, conversation, frozenset(changes), drafts)


def labelled_documents(row: Drafted, tokens: Iterable[Tokenized], config: Config, tokenizer: ChatTokenizer) -> list[Document]:
    """The documents of a drafted row, before windows. Raises `BadInput` with the reason it is rejected for.

    Args:
        tokens: of each draft.
    """
    labelled = (tokenizer.labelled(*each) for each in zip(row.drafts, tokens, strict=True))
    return fitting_documents([document for documents in labelled for document in documents], config)


def documents_of(conversation: Conversation, config: Config, tokenizer: ChatTokenizer) -> list[Encoded]:
    """The conversation in tokens, before windows. Raises `BadInput` with the reason a row is rejected for."""
    return fitting_documents(tokenizer.encode_conversation(conversation), config)


@dataclass(frozen=True)
class Look:
    """A row as it would be trained. Where it can't be, `reason` says why and the rest is as far as it came.

    Attributes:
        changes: what cleaning changed.
        documents: in tokens, before windows; none without a tokenizer.
    """

    conversation: Conversation
    changes: set[str]
    documents: list[Encoded]
    reason: str = ""


def look_at(raw: RawRow, config: Config, tokenizer: ChatTokenizer | None) -> Look:
    """What would become of one row. Twins are not known here: they take all rows before it."""
    conversation, changes = NOTHING_SAID, set[str]()
    try:
        conversation, changes = conversation_of(raw, config)
        return Look(conversation, changes, documents_of(conversation, config, tokenizer) if tokenizer else [])
    except BadInput as problem:
        return Look(conversation, changes, [], problem.message)


def fitting_documents(encoded: list[AnyDocument], config: Config) -> list[AnyDocument]:
    """The documents of a conversation, where the config keeps conversations so long. Raises `BadInput` as `documents_of`."""
    if config.data.over_long == "drop" and any(len(document.ids) > config.data.max_seq_len for document in encoded):
        raise BadInput(f"longer than {config.data.max_seq_len} tokens (data.max_seq_len)")
    return encoded
