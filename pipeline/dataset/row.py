"""From a row of the raw file to the documents it is trained as, or why it is not: for preparing rows and for showing them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, DataSection, FoundSchema
from pipeline.dataset.cleaning import beginning, clean, clean_text, digest
from pipeline.dataset.origin import origin_of
from pipeline.dataset.readers.reader import Form, RawRow
from pipeline.dataset.schemas.read import read
from pipeline.dataset.schemas.registry import fitting, why_none
from pipeline.tokenization.messages import Conversation

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.label_spans import Document, Draft, Encoded, Tokenized

NOTHING_SAID = Conversation(())
AnyDocument = TypeVar("AnyDocument", "Encoded", "Document")


_forms: dict[Form, tuple[DataSection, DataSection]] = {}


def data_of(raw: RawRow, data: DataSection) -> DataSection:
    """How a row is read: as its source says, where there are several."""
    if raw.form is None:
        return data
    held = _forms.get(raw.form)
    if held is None or held[0] is not data:
        own = data.model_copy(update={"row_schema": raw.form.schema, "columns": raw.form.columns})
        held = _forms[raw.form] = (data, own)
    return held[1]


class Said(NamedTuple):
    """The cleaned conversation of a row, what cleaning changed, names of what in the row is not used, and what it is part of."""

    conversation: Conversation
    changes: set[str]
    left_out: frozenset[str]
    origin: str


def conversation_of(raw: RawRow, config: Config) -> Said:
    """What a row says. Raises `BadInput` with the reason a row is rejected for.

    Args:
        config: with the schema of the file, not auto (`sniff.with_schema`).
    """
    if raw.problem:
        raise BadInput(raw.problem)
    try:
        written, left_out = read(raw.row, data_of(raw, config.data))
    except BadInput:
        if raw.form or config.data.columns or fitting(raw.row):
            raise
        raise BadInput(why_none(raw.row)) from None
    origin = origin_of(raw.row)
    if written.text:
        text, changes = clean_text(written.text)
        return Said(Conversation((), text=text), changes, left_out, origin)
    messages, changes = clean(written.messages)
    return Said(Conversation(tuple(messages), written.tools, written.arguments), changes, left_out, origin)


@dataclass(frozen=True, slots=True)
class Drafted:
    """A row of many on its way: rejected (`problem`), drafted, or with neither the twin of an earlier one."""

    number: int
    schema: FoundSchema | None
    place: str = ""
    problem: str = ""
    name: bytes = b""
    conversation: Conversation = NOTHING_SAID
    changes: frozenset[str] = frozenset()
    drafts: tuple[Draft, ...] = ()
    left_out: frozenset[str] = frozenset()
    origin: str = ""
    source: int = 0
    question: str = ""


def drafted(raw: RawRow, config: Config, tokenizer: ChatTokenizer, met: Container[bytes]) -> Drafted:
    """The row, all done but the tokens. `met` are the digests of conversations that stand further up."""
    source = raw.form.number if raw.form else 0
    try:
        conversation, changes, left_out, origin = conversation_of(raw, config)
        question = beginning(conversation)
        name = digest(conversation, question)
        if name in met:
            return Drafted(raw.number, None, raw.place, name=name, source=source)
        drafts = tuple(tokenizer.drafts(conversation))
    except BadInput as problem:
        other = None if raw.form else fitting(raw.row)
        return Drafted(raw.number, other, raw.place, problem.message, source=source)
    changed = frozenset(changes)
    return Drafted(raw.number, None, raw.place, "", name, conversation, changed, drafts, left_out, origin, source, question)


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
        left_out: names of what in the row is not used.
    """

    conversation: Conversation
    changes: set[str]
    documents: list[Encoded]
    reason: str = ""
    left_out: frozenset[str] = frozenset()


def look_at(raw: RawRow, config: Config, tokenizer: ChatTokenizer | None) -> Look:
    """What would become of one row. Twins are not known here: they take all rows before it."""
    conversation, changes, left_out = NOTHING_SAID, set[str](), frozenset[str]()
    try:
        conversation, changes, left_out, _ = conversation_of(raw, config)
        return Look(conversation, changes, documents_of(conversation, config, tokenizer) if tokenizer else [], left_out=left_out)
    except BadInput as problem:
        return Look(conversation, changes, [], problem.message, left_out)


def fitting_documents(encoded: list[AnyDocument], config: Config) -> list[AnyDocument]:
    """The documents of a conversation, where the config keeps conversations so long. Raises `BadInput` as `documents_of`."""
    if config.data.over_long == "drop" and any(len(document.ids) > config.data.max_seq_len for document in encoded):
        raise BadInput(f"longer than {config.data.max_seq_len} tokens (data.max_seq_len)")
    return encoded
