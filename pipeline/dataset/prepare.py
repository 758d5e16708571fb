"""From a raw JSONL file to the folder that `processed` describes, in one pass over the text and one over the tokens.

Held in memory are a digest and a few numbers for each conversation: about 150 MB for a million.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.base_model.tokenizer import ChatTokenizer, Encoded
from pipeline.config import Config
from pipeline.dataset import jsonl
from pipeline.dataset.cleaning import digest
from pipeline.dataset.conversation import NOT_TRAINED, Message
from pipeline.dataset.processed import SPLITS
from pipeline.dataset.row import conversation_of, documents_of
from pipeline.dataset.schemas import fitting
from pipeline.dataset.split import assign
from pipeline.dataset.tally import Tally
from pipeline.dataset.windows import windows
from pipeline.errors import BadInput

_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema([("input_ids", _TOKENS), ("labels", _TOKENS)])
# Tokens written to disk at once: a few MB, whatever the length of the documents.
_BATCH_TOKENS = 1 << 19

Progress = Callable[[int, str], None]
"""Called often with the rows done and what is being done; may raise `Stopped`."""


@dataclass
class Counts:
    """What happened on the way, for the report."""

    rows: int = 0
    rejected: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    turn_by_turn: Tally = field(default_factory=Tally)
    windowed: Tally = field(default_factory=Tally)
    windows: int = 0
    windows_without_label: int = 0
    other_schema: dict[str, int] = field(default_factory=dict)


@dataclass
class Kept:
    """Good conversations, in the order of the file: parallel columns, by conversation and by document."""

    digests: list[bytes] = field(default_factory=list)
    conversation_lengths: array[int] = field(default_factory=lambda: array("l"))  # tokens, before windows
    owners: array[int] = field(default_factory=lambda: array("l"))  # of each document, the number of its conversation
    lengths: array[int] = field(default_factory=lambda: array("l"))
    trained: array[int] = field(default_factory=lambda: array("l"))


def prepare(raw: Path, folder: Path, config: Config, tokenizer: ChatTokenizer, progress: Progress) -> dict[str, Any]:
    """Fill `folder` with everything but `report.json`, and return what is to be reported.

    Raises:
        BadInput: no row of the file can be used; says why, with line numbers.
    """
    datasets.disable_progress_bars()
    counts, kept = Counts(rejected=Tally(jsonl.unit(raw))), Kept()
    conversations, documents = folder / "kept.jsonl", folder / "kept.arrow"
    with conversations.open("w", encoding="utf-8") as text, _DocumentWriter(documents) as tokens:
        for messages, pieces in _good_rows(raw, config, tokenizer, counts, kept, progress):
            text.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
            for ids, labels in pieces:
                tokens.write(ids, labels)
    if not kept.digests:
        raise _nothing_good(raw, config, counts)
    split_of = assign(kept.digests, config.data.split, config.seed)
    progress(counts.rows, "dividing")
    _write_conversations(conversations, folder, split_of)
    splits = _write_documents(documents, folder, kept, split_of)
    conversations.unlink()
    documents.unlink()
    return _report(counts, kept, splits)


def _good_rows(
    raw: Path, config: Config, tokenizer: ChatTokenizer, counts: Counts, kept: Kept, progress: Progress
) -> Iterator[tuple[list[Message], list[tuple[list[int], list[int]]]]]:
    """Each conversation that is kept with its documents (ids, labels), everything counted."""
    seen: set[bytes] = set()
    for line in jsonl.read_lines(raw):
        counts.rows += 1
        progress(line.number, "tokenizing")
        try:
            messages, changes = conversation_of(line, config)
            name = digest(messages)
            if name in seen:
                counts.duplicates.add("seen before", line.number)
                continue
            encoded = documents_of(messages, config, tokenizer)
        except BadInput as problem:
            counts.rejected.add(problem.message, line.number)
            _note_schema(line, config, counts)
            continue
        seen.add(name)
        for change in sorted(changes):
            counts.changed.add(change, line.number)
        if len(encoded) > 1:
            counts.turn_by_turn.add("trained turn by turn", line.number)
        pieces = _pieces(encoded, line.number, config, counts)
        _keep(kept, name, encoded, pieces)
        yield messages, pieces


def _pieces(encoded: list[Encoded], line: int, config: Config, counts: Counts) -> list[tuple[list[int], list[int]]]:
    """The documents as they fit into rows; windows in which nothing would be trained are left out, and counted."""
    pieces = []
    longest, overlap = config.data.max_seq_len, config.data.overlap
    for document in encoded:
        if len(document.ids) <= longest:
            pieces.append((document.ids, document.labels))
            continue
        counts.windowed.add("in windows", line)
        for ids, labels in windows(document.ids, document.labels, longest, overlap):
            if any(label != NOT_TRAINED for label in labels):
                counts.windows += 1
                pieces.append((ids, labels))
            else:
                counts.windows_without_label += 1
    return pieces


def _keep(kept: Kept, name: bytes, encoded: list[Encoded], pieces: list[tuple[list[int], list[int]]]) -> None:
    number = len(kept.digests)
    kept.digests.append(name)
    kept.conversation_lengths.append(max(len(document.ids) for document in encoded))
    for ids, labels in pieces:
        kept.owners.append(number)
        kept.lengths.append(len(ids))
        kept.trained.append(sum(label != NOT_TRAINED for label in labels))


def _note_schema(line: jsonl.Line, config: Config, counts: Counts) -> None:
    """A file in the other schema is a common slip: remembered, so that the error can name the setting."""
    schema = fitting(line.row)
    if schema and schema != config.data.row_schema:
        counts.other_schema[schema] = counts.other_schema.get(schema, 0) + 1


def _nothing_good(raw: Path, config: Config, counts: Counts) -> BadInput:
    if not counts.rows:
        return BadInput(f"{raw}: holds no rows", "put one JSON object with a conversation on each line")
    reasons = "\n".join(f"  {words}" for words in counts.rejected.in_words())
    hint = f"each line must be a JSON object as data.schema says ({config.data.row_schema})"
    if counts.other_schema:
        hint = f"humigence config set data.schema {max(counts.other_schema, key=lambda name: counts.other_schema[name])}"
    return BadInput(f"{raw}: none of its {counts.rows} rows can be used\n{reasons}", hint)


# -------------------------------------------------------------------------------------------------- writing


class _DocumentWriter:
    """Arrow, written as it comes."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.RecordBatchStreamWriter(str(path), _SCHEMA)
        self._columns: tuple[list[list[int]], list[list[int]]] = ([], [])
        self._waiting = 0

    def __enter__(self) -> _DocumentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, ids: list[int], labels: list[int]) -> None:
        self._columns[0].append(ids)
        self._columns[1].append(labels)
        self._waiting += len(ids)
        if self._waiting >= _BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(column, type=_TOKENS) for column in self._columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._columns = ([], [])
        self._waiting = 0


def _write_conversations(kept: Path, folder: Path, split_of: NDArray[np.int8]) -> None:
    files = [(folder / f"{split}.jsonl").open("w", encoding="utf-8") for split in SPLITS]
    try:
        with kept.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines):
                files[split_of[number]].write(line)
    finally:
        for file in files:
            file.close()


def _write_documents(path: Path, folder: Path, kept: Kept, split_of: NDArray[np.int8]) -> dict[str, Any]:
    """Arrow folder and lengths of each split; returns what the report says of them."""
    whole = datasets.Dataset.from_file(str(path))
    lengths, trained = np.array(kept.lengths, dtype=np.int32), np.array(kept.trained, dtype=np.int32)
    split_of_document = split_of[np.array(kept.owners, dtype=np.int64)]
    figures: dict[str, Any] = {}
    for number, split in enumerate(SPLITS):
        mine = np.flatnonzero(split_of_document == number)
        # An empty split without a shard of its own could not be loaded again.
        whole.select(mine).save_to_disk(str(folder / split), num_shards=None if mine.size else 1)
        np.save(folder / f"{split}.lengths.npy", lengths[mine])
        np.save(folder / f"{split}.trained.npy", trained[mine])
        figures[split] = _split_figures(int((split_of == number).sum()), lengths[mine], trained[mine])
    return figures


def _split_figures(conversations: int, lengths: NDArray[np.int32], trained: NDArray[np.int32]) -> dict[str, Any]:
    tokens, with_label = int(lengths.sum(dtype=np.int64)), int(trained.sum(dtype=np.int64))
    return {
        "conversations": conversations,
        "documents": int(lengths.size),
        "tokens": tokens,
        "trained_tokens": with_label,
        "trained_share": round(with_label / tokens, 4) if tokens else 0.0,
        "document_tokens": percentiles(lengths),
    }


def percentiles(lengths: NDArray[np.integer]) -> dict[str, int]:
    """p50, p90, p99 and max in tokens; each a length that occurs. Empty for no lengths."""
    if not lengths.size:
        return {}
    p50, p90, p99 = np.percentile(lengths, [50, 90, 99], method="inverted_cdf")
    return {"p50": int(p50), "p90": int(p90), "p99": int(p99), "max": int(lengths.max())}


def _report(counts: Counts, kept: Kept, splits: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": counts.rows,
        "kept": len(kept.digests),
        "rejected": counts.rejected.to_json(),
        "rejected_rows": counts.rejected.total,
        "duplicates": counts.duplicates.total,
        "duplicate_lines": counts.duplicates.to_json().get("seen before", {}).get("lines", []),
        "changed": counts.changed.to_json(),
        "turn_by_turn": counts.turn_by_turn.total,
        "windowed_documents": counts.windowed.total,
        "windows": counts.windows,
        "windows_without_label": counts.windows_without_label,
        "conversation_tokens": percentiles(np.array(kept.conversation_lengths, dtype=np.int64)),
        "splits": splits,
        "rejected_in_words": counts.rejected.in_words(),
    }
