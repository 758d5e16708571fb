"""Writing prepared data: documents in tokens as they come, then each split's part of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.loss_weights import Collected
from pipeline.dataset.processed import SPLITS

_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema([("input_ids", _TOKENS), ("labels", _TOKENS)])
# Tokens written to disk at once: a few MB, whatever the length of the documents.
_BATCH_TOKENS = 1 << 19
# Conversations, as lines.
BUFFER_BYTES = 1 << 20


class DocumentWriter:
    """Arrow, written as it comes."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.RecordBatchStreamWriter(str(path), _SCHEMA)
        self._columns: tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]] = ([], [])
        self._waiting = 0

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, ids: NDArray[np.int32], labels: NDArray[np.int32]) -> None:
        self._columns[0].append(ids)
        self._columns[1].append(labels)
        self._waiting += len(ids)
        if self._waiting >= _BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        arrays = [_lists(column) for column in self._columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._columns = ([], [])
        self._waiting = 0


def _lists(column: list[NDArray[np.int32]]) -> pa.Array:
    offsets = np.zeros(len(column) + 1, dtype=np.int32)
    np.cumsum([each.size for each in column], out=offsets[1:])
    values = np.concatenate(column) if column else np.zeros(0, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def write_conversations(kept: Path, folder: Path, split_of: NDArray[np.int8], copies: NDArray[np.int32] | None = None) -> None:
    """The lines of `kept`, each to the file of its split, once; those of no split and of no copies are left out."""
    files = [(folder / f"{split}.jsonl").open("wb", BUFFER_BYTES) for split in SPLITS]
    try:
        with kept.open("rb", BUFFER_BYTES) as lines:
            for number, line in enumerate(lines):
                if split_of[number] < 0 or (copies is not None and not copies[number]):
                    continue
                files[split_of[number]].write(line)
    finally:
        for file in files:
            file.close()


def write_documents(
    path: Path,
    folder: Path,
    split_of: NDArray[np.int8],
    owners: NDArray[np.int32],
    lengths: NDArray[np.int32],
    trained: NDArray[np.int32],
    *,
    weights: Collected,
    copies: NDArray[np.int32] | None = None,
) -> dict[str, Any]:
    """Arrow folder, lengths and weights of each split; returns what the report says of them.

    Args:
        path: what `DocumentWriter` wrote.
        split_of: of each conversation.
        owners: of each document, the number of its conversation.
        lengths: of each document, in tokens.
        trained: of each document, tokens with a label.
        weights: of the documents' labels in the loss.
        copies: how often each conversation is written; None for once.
    """
    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_file(str(path))
    split_of_document = split_of[owners]
    for number, split in enumerate(SPLITS):
        mine = repeated(np.flatnonzero(split_of_document == number), owners, copies)
        # An empty split without a shard of its own could not be loaded again.
        whole.select(mine).save_to_disk(str(folder / split), num_shards=None if mine.size else 1)
        np.save(folder / f"{split}.lengths.npy", lengths[mine])
        np.save(folder / f"{split}.trained.npy", trained[mine])
        np.save(folder / f"{split}.owners.npy", owners[mine])
        weights.write(folder / f"{split}.loss_weights.npy", mine)
    return split_figures(split_of, owners, lengths, trained, copies)


def repeated(documents: NDArray[np.int64], owners: NDArray[np.int32], copies: NDArray[np.int32] | None) -> NDArray[np.int64]:
    """The documents as often as their conversations are written: all once, then those that come twice, and so on."""
    if copies is None:
        return documents
    often = copies[owners[documents]]
    return np.concatenate([documents[often > turn] for turn in range(int(often.max(initial=1)))])


def split_figures(
    split_of: NDArray[np.int8],
    owners: NDArray[np.int32],
    lengths: NDArray[np.int32],
    trained: NDArray[np.int32],
    copies: NDArray[np.int32] | None = None,
) -> dict[str, Any]:
    """What a report says of each split. Columns as `write_documents` takes them."""
    split_of_document = split_of[owners]
    written = np.ones(len(split_of), dtype=np.int32) if copies is None else copies
    found: dict[str, Any] = {}
    for number, split in enumerate(SPLITS):
        mine = repeated(np.flatnonzero(split_of_document == number), owners, copies)
        found[split] = _split_figures(int(((split_of == number) & (written > 0)).sum()), lengths[mine], trained[mine])
    return found


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
