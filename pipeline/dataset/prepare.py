"""From a raw file to the folder that `processed` describes, in one pass over the text and one over the tokens.

Held in memory are a digest, a sketch and a few numbers for each conversation: about 300 MB for a million.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.dataset import sources
from pipeline.dataset.gc_pause import searched_seldom
from pipeline.dataset.grouping import Grouping, trained_stretches
from pipeline.dataset.leaks import in_words
from pipeline.dataset.loss_weights import Collected, Stretch, stretches, within
from pipeline.dataset.ordered_threads import in_order
from pipeline.dataset.processed import GROUPS_VERSION, SPLITS, packed_rows
from pipeline.dataset.readers.manifest import Met, Source, own_splits, sources_of
from pipeline.dataset.reason_counts import Tally
from pipeline.dataset.row import Drafted, drafted, labelled_documents
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.dataset.split import Divided, Splits, divided
from pipeline.dataset.windows import Tokens, windows
from pipeline.dataset.write import (
    BUFFER_BYTES,
    DocumentWriter,
    percentiles,
    repeated,
    split_figures,
    write_conversations,
    write_documents,
)
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.label_spans import Document, Tokenized
from pipeline.tokenization.messages import NOT_TRAINED, Conversation
from pipeline.tokenization.read_back import ReadBack, not_read_back

# Tokenized at once: enough that a thread works for a while, little enough to be held a few times.
_BATCH_CHARACTERS = 1 << 18
_BATCH_ROWS = 1024
_READ_BACK_EVERY = 128  # drafts: decoding all would take as long as everything else
_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Piece(NamedTuple):
    """What goes into a row of tokens: ids and labels, how many are trained, and which stretches of the labels weigh something
    else than one."""

    ids: Tokens
    labels: Tokens
    trained: int
    stretches: tuple[Stretch, ...] = ()


Progress = Callable[[int, str], None]
"""Called often with the rows done and what is being done; may raise `Stopped`."""


@dataclass
class Counts:
    """What happened on the way, for the report."""

    rows: int = 0
    rejected: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    not_shown: Tally = field(default_factory=Tally)
    left_out: Tally = field(default_factory=Tally)
    turn_by_turn: Tally = field(default_factory=Tally)
    weighted: Tally = field(default_factory=Tally)
    windowed: Tally = field(default_factory=Tally)
    windows: int = 0
    windows_without_label: int = 0
    tokenizer_class: str = ""
    read_back: ReadBack = field(default_factory=ReadBack)
    other_schema: dict[str, int] = field(default_factory=dict)
    by_source: dict[int, int] = field(default_factory=dict)


@dataclass
class Kept:
    """Good conversations, in the order of the file: parallel columns, by conversation and by document."""

    digests: list[bytes] = field(default_factory=list)
    rows: array[int] = field(default_factory=lambda: array("l"))  # of each conversation, its row
    sources: array[int] = field(default_factory=lambda: array("l"))  # of each conversation, where there are several
    conversation_lengths: array[int] = field(default_factory=lambda: array("l"))  # tokens, before windows
    owners: array[int] = field(default_factory=lambda: array("l"))  # of each document, the number of its conversation
    lengths: array[int] = field(default_factory=lambda: array("l"))
    trained: array[int] = field(default_factory=lambda: array("l"))
    grouping: Grouping = field(default_factory=Grouping)
    weights: Collected = field(default_factory=Collected)


def prepare(raw: Path, folder: Path, config: Config, tokenizer: ChatTokenizer, progress: Progress) -> dict[str, Any]:
    """Fill `folder` with everything but `report.json`, and return what is to be reported.

    Raises:
        BadInput: no row of the file can be used; says why, with line numbers.
    """
    config = with_schema(config, raw)
    unit = reader_for(config, raw).unit
    counts, kept = Counts(rejected=Tally(unit), left_out=Tally(unit), tokenizer_class=tokenizer.kind), Kept()
    conversations, documents = folder / "kept.jsonl", folder / "kept.arrow"
    with (
        conversations.open("wb", BUFFER_BYTES) as text,
        DocumentWriter(documents) as tokens,
        closing(_good_rows(raw, config, tokenizer, counts, kept, progress)) as good,
    ):
        for conversation, pieces in good:
            text.write(_to_json(conversation.as_row()).encode() + b"\n")
            for piece in pieces:
                tokens.write(piece.ids, piece.labels)
    _check(raw, config, counts, kept)
    progress(counts.rows, "dividing")
    found, copies = _divided(raw, config, kept)
    write_conversations(conversations, folder, found.split_of, copies)
    columns = [np.array(column, dtype=np.int32) for column in (kept.owners, kept.lengths, kept.trained)]
    splits = write_documents(documents, folder, found.split_of, *columns, weights=kept.weights, copies=copies)
    conversations.unlink()
    documents.unlink()
    return _report(counts, kept, found, splits) | _of_sources(raw, counts, kept, found.split_of, copies)


def _divided(raw: Path, config: Config, kept: Kept) -> tuple[Divided, sources.Copies | None]:
    """The split of each conversation with what is to be told of it, and of several sources how often each is written."""
    several, groups = sources_of(raw), kept.grouping.groups(kept.digests)
    if not several:
        return divided(kept.digests, groups, config), None
    of = np.array(kept.sources, dtype=np.int32)
    found = divided(kept.digests, groups, config, of.astype(np.int64), own_splits(several)[of])
    _check_divided(several, kept, found)
    return found, sources.copies_of(kept.digests, of, found.split_of, several, config.seed)


def _check_divided(several: Sequence[Source], kept: Kept, found: Divided) -> None:
    """Raise `BadInput` where a file that a person named for val or test gives no row, or leaves none to train on."""
    for each in several:
        if each.split and each.form.number not in kept.sources:
            raise BadInput(
                f"data.{each.split}_path: none of the rows of {each.path} can be used", f"humigence data inspect {each.path}"
            )
    if not (found.split_of == SPLITS.index("train")).any():
        reasons = "\n".join(in_words(found.leaks.to_json(kept.rows)))
        raise BadInput(f"no row is left to train on\n{reasons}", "name other rows in data.val_path and data.test_path")


def _of_sources(
    raw: Path, counts: Counts, kept: Kept, split_of: Splits, copies: sources.Copies | None
) -> dict[str, list[dict[str, Any]]]:
    """For the report, where there are several."""
    if copies is None:
        return {}
    several, of = sources_of(raw), np.array(kept.sources, dtype=np.int32)
    read = [counts.by_source.get(each.form.number, 0) for each in several]
    return {"sources": sources.figures(several, of, split_of, copies, read)}


@dataclass(frozen=True)
class Measured:
    """What preparing a file would come to.

    Attributes:
        report: as `prepare` returns it.
        lengths: tokens of each conversation that is kept, before windows.
        packed: rows that the training documents make, and the tokens one holds.
    """

    report: dict[str, Any]
    lengths: NDArray[np.int64]
    packed: tuple[int, int]


def measure(raw: Path, config: Config, tokenizer: ChatTokenizer, progress: Progress) -> Measured:
    """All that `prepare` would do but writing. Raises as it does."""
    config = with_schema(config, raw)
    unit = reader_for(config, raw).unit
    counts, kept = Counts(rejected=Tally(unit), left_out=Tally(unit), tokenizer_class=tokenizer.kind), Kept()
    with closing(_good_rows(raw, config, tokenizer, counts, kept, progress)) as good:
        for _ in good:
            pass
    _check(raw, config, counts, kept)
    found, copies = _divided(raw, config, kept)
    split_of = found.split_of
    owners, lengths, trained = (np.array(column, dtype=np.int32) for column in (kept.owners, kept.lengths, kept.trained))
    return Measured(
        _report(counts, kept, found, split_figures(split_of, owners, lengths, trained, copies))
        | _of_sources(raw, counts, kept, split_of, copies),
        _lengths(kept, found),
        packed_rows(lengths[repeated(np.flatnonzero(split_of[owners] == SPLITS.index("train")), owners, copies)], config),
    )


def _good_rows(
    raw: Path, config: Config, tokenizer: ChatTokenizer, counts: Counts, kept: Kept, progress: Progress
) -> Generator[tuple[Conversation, list[Piece]]]:
    """Each conversation that is kept with its documents, everything counted."""

    def encode(batch: list[Drafted]) -> list[Tokenized]:
        return tokenizer.encode([draft for row in batch for draft in row.drafts])

    refused: dict[bytes, str] = {}  # conversations that met their twin before it was known that they can't be used
    seen = 0  # drafts
    with searched_seldom(), closing(in_order(_batches(_read(raw, config, tokenizer)), encode)) as encoded:
        for batch, in_batch in encoded:
            drafts = (draft for row in batch for draft in row.drafts)
            counts.read_back += tokenizer.read_back(
                islice(zip(drafts, in_batch, strict=True), -seen % _READ_BACK_EVERY, None, _READ_BACK_EVERY)
            )
            seen += len(in_batch)
            remaining = iter(in_batch)
            for row in batch:
                counts.rows += 1
                counts.by_source[row.source] = counts.by_source.get(row.source, 0) + 1
                progress(row.number, "tokenizing")
                tokens = list(islice(remaining, len(row.drafts)))
                try:
                    documents = _documents(row, tokens, config, tokenizer, refused)
                except BadInput as problem:
                    _reject(row, problem.message, config, counts, refused)
                    continue
                if documents:
                    yield row.conversation, _kept(row, documents, config, counts, kept)
                else:
                    counts.duplicates.add("seen before", row.number, row.place)


def _read(raw: Path, config: Config, tokenizer: ChatTokenizer) -> Iterator[Drafted]:
    """Every row of the file, all done but the tokens."""
    met = Met(sources_of(raw))
    for raw_row in reader_for(config, raw).rows(raw):
        among = met.among(raw_row.form)
        row = drafted(raw_row, config, tokenizer, among)
        if row.drafts:
            among.add(row.name)
        yield row


def _documents(
    row: Drafted, tokens: list[Tokenized], config: Config, tokenizer: ChatTokenizer, refused: dict[bytes, str]
) -> list[Document]:
    """The row's documents; none for a twin. Raises `BadInput` with the reason a row is rejected for."""
    if row.problem or row.name in refused:
        raise BadInput(row.problem or refused[row.name])
    return labelled_documents(row, tokens, config, tokenizer)


def _reject(row: Drafted, reason: str, config: Config, counts: Counts, refused: dict[bytes, str]) -> None:
    counts.rejected.add(reason, row.number, row.place)
    if row.name:
        refused[row.name] = reason
    # A file in the other schema is a common slip: remembered, so that the error can name the setting.
    if row.schema and row.schema != config.data.row_schema:
        counts.other_schema[row.schema] = counts.other_schema.get(row.schema, 0) + 1


def _batches(rows: Iterator[Drafted]) -> Iterator[list[Drafted]]:
    batch, characters = list[Drafted](), 0
    for row in rows:
        batch.append(row)
        characters += sum(len(draft.text) for draft in row.drafts)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _kept(row: Drafted, documents: list[Document], config: Config, counts: Counts, kept: Kept) -> list[Piece]:
    """The row's documents as they fit into rows of tokens, counted."""
    for change in sorted(row.changes):
        counts.changed.add(change, row.number, row.place)
    for name in row.drafts[0].not_shown:
        counts.not_shown.add(name, row.number, row.place)
    for name in row.left_out:
        counts.left_out.add(name, row.number, row.place)
    if len(documents) > 1:
        counts.turn_by_turn.add("trained turn by turn", row.number, row.place)
    pieces = _pieces(documents, row, config, counts)
    if any(piece.stretches for piece in pieces):
        counts.weighted.add("weighted", row.number, row.place)
    _keep(kept, row, documents, pieces)
    return pieces


def _pieces(documents: list[Document], row: Drafted, config: Config, counts: Counts) -> list[Piece]:
    """The documents as they fit into rows; windows in which nothing would be trained are left out, and counted."""
    pieces = list[Piece]()
    longest, overlap = config.data.max_seq_len, config.data.overlap
    for document in documents:
        weighted = stretches(document.spans, document.weights)
        if len(document.ids) <= longest:
            pieces.append(Piece(document.ids, document.labels, document.trained, weighted))
            continue
        counts.windowed.add("in windows", row.number, row.place)
        for begin, ids, labels in windows(document.ids, document.labels, longest, overlap):
            if (labels != NOT_TRAINED).any():
                counts.windows += 1
                trained_from = begin + int(np.argmax(labels != NOT_TRAINED))
                mine = within(weighted, begin, trained_from, begin + len(ids))
                pieces.append(Piece(ids, labels, int(np.count_nonzero(labels != NOT_TRAINED)), tuple(mine)))
            else:
                counts.windows_without_label += 1
    return pieces


def _keep(kept: Kept, row: Drafted, documents: list[Document], pieces: list[Piece]) -> None:
    number = len(kept.digests)
    kept.digests.append(row.name)
    kept.rows.append(row.number)
    kept.sources.append(row.source)
    kept.grouping.add(row.conversation, row.origin, trained_stretches(documents), row.question)
    kept.conversation_lengths.append(max(len(document.ids) for document in documents))
    for piece in pieces:
        kept.weights.add(len(kept.owners), piece.stretches)
        kept.owners.append(number)
        kept.lengths.append(len(piece.ids))
        kept.trained.append(piece.trained)


def _check(raw: Path, config: Config, counts: Counts, kept: Kept) -> None:
    """Raise `BadInput` where there is nothing to train on, or what there is came through the tokenizer as something else."""
    if not kept.digests:
        raise _nothing_good(raw, config, counts)
    if counts.read_back.is_too_much:
        raise not_read_back(str(raw), counts.read_back, counts.tokenizer_class)


def _nothing_good(raw: Path, config: Config, counts: Counts) -> BadInput:
    if not counts.rows:
        return BadInput(f"{raw}: holds no rows", "put one JSON object with a conversation on each line")
    reasons = "\n".join(f"  {words}" for words in counts.rejected.in_words())
    hint = f"each row must be as data.schema says ({config.data.row_schema}); humigence data inspect shows what is read"
    if counts.other_schema:
        hint = f"humigence config set data.schema {max(counts.other_schema, key=lambda name: counts.other_schema[name])}"
    return BadInput(f"{raw}: none of its {counts.rows} rows can be used\n{reasons}", hint)


def _lengths(kept: Kept, found: Divided) -> NDArray[np.int64]:
    """Tokens of each conversation that is in a split."""
    return np.array(kept.conversation_lengths, dtype=np.int64)[found.split_of >= 0]


def _report(counts: Counts, kept: Kept, found: Divided, splits: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": counts.rows,
        "kept": int((found.split_of >= 0).sum()),
        "leaks": found.leaks.to_json(kept.rows),
        "rejected": counts.rejected.to_json(),
        "rejected_rows": counts.rejected.total,
        "duplicates": counts.duplicates.total,
        "duplicate_lines": counts.duplicates.to_json().get("seen before", {}).get("lines", []),
        "changed": counts.changed.to_json(),
        "tokenizer_class": counts.tokenizer_class,
        "read_back": asdict(counts.read_back),
        "not_shown": counts.not_shown.to_json(),
        "left_out": counts.left_out.to_json(),
        "turn_by_turn": counts.turn_by_turn.total,
        "weighted": counts.weighted.total,
        "windowed_documents": counts.windowed.total,
        "windows": counts.windows,
        "windows_without_label": counts.windows_without_label,
        "conversation_tokens": percentiles(_lengths(kept, found)),
        "grouped": asdict(found.grouped),
        "groups_version": GROUPS_VERSION,
        "splits": splits,
        "rejected_in_words": counts.rejected.in_words(),
    }
