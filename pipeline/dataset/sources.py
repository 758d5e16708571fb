"""Several sources as one file of rows: those of `data.sources`, and rows that a person named for val and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.common.cache import cache_folder
from pipeline.common.errors import BadInput
from pipeline.common.files import write_atomic
from pipeline.config.schema import Config, FoundSchema, RowSchema, SourceItem
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.leaks import LEFT_OUT
from pipeline.dataset.readers import manifest
from pipeline.dataset.readers.manifest import Source
from pipeline.dataset.readers.reader import Form
from pipeline.dataset.readers.registry import parts_of
from pipeline.dataset.sniff import USUAL, fitting_schema, found_schema
from pipeline.runs.folders import Workspace

Copies = NDArray[np.int32]
_TRAIN = 0


def as_one(config: Config, workspace: Workspace, rows: Path | None = None) -> Path:
    """The file that names them: written where it is not there yet, into the cache, by what it says. Raises `OSError`.

    Args:
        rows: where the rows are that are divided; those of `data.sources` where it is not given.
    """
    if rows is None:
        sources = tuple(_source(number, each, workspace) for number, each in enumerate(config.data.sources))
    else:
        sources = (_divided(config, rows),)
    sources += _held_out(config, workspace, sources)
    contents = manifest.written(sources)
    path = cache_folder("sources") / f"{hashlib.sha256(contents).hexdigest()[:24]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, contents)
    return path


def _source(number: int, item: SourceItem, workspace: Workspace) -> Source:
    path = hub_rows.path_of(item.hub) if item.repo else workspace.resolve(item.path)
    return Source(item.title, path, Form(number, _schema_of(item, path), item.columns), item.weight, item.rows)


def _divided(config: Config, rows: Path) -> Source:
    """The rows of a config that names one source, and others for val or test."""
    data = config.data
    title = data.hub.repo if data.source == "hub" else PurePath(data.raw_path).name or data.raw_path
    schema = data.row_schema if data.row_schema != "auto" else found_schema(rows, data.columns) if parts_of(rows) else USUAL
    return Source(title, rows, Form(0, schema, data.columns))


def _held_out(config: Config, workspace: Workspace, others: Sequence[Source]) -> tuple[Source, ...]:
    """Those that are held out whole, each read as it is written. It is called by its name, or by its path where that is taken."""
    found = list[Source]()
    for split, path in config.data.held_out_paths.items():
        rows, name = workspace.resolve(path), PurePath(path).name
        title = path if name in {"", *(each.title for each in (*others, *found))} else name
        form = _form_of_held_out(len(others) + len(found), rows, config)
        found.append(Source(title, rows, form, split=split))
    return tuple(found)


def _form_of_held_out(number: int, rows: Path, config: Config) -> Form:
    """How rows are written that a person named for val or test: as those of the source where they fit that, else as they are."""
    data = config.data
    preferred: RowSchema = "auto" if data.source == "several" else data.row_schema
    with suppress(BadInput, OSError):  # whether rows can be read from it is told by whoever is about to read them
        for columns in dict.fromkeys((data.columns, ())) if parts_of(rows) else ():
            if found := fitting_schema(rows, columns, preferred):
                return Form(number, found, columns)
    return Form(number, USUAL)


def as_held_out(config: Config, rows: Path) -> Config:
    """The config with how rows are written at the path that it names for val or test, for reading that file alone."""
    form = _form_of_held_out(0, rows, config)
    data = config.data.model_copy(update={"row_schema": form.schema, "columns": form.columns})
    return config.model_copy(update={"data": data})


def _schema_of(item: SourceItem, path: Path) -> FoundSchema:
    if item.row_schema != "auto":
        return item.row_schema
    return found_schema(path, item.columns) if parts_of(path) else USUAL


def missing(config: Config) -> list[SourceItem]:
    """Those of the hub that are not here yet."""
    return [each for each in config.data.sources if each.repo and hub_rows.find(each.hub) is None]


# ---------------------------------------------------------------------------------------------------- how much of each


def copies_of(
    names: Sequence[bytes], of: NDArray[np.int32], split_of: NDArray[np.int8], sources: Sequence[Source], seed: int
) -> Copies:
    """How often each conversation is written: those beyond `rows` of its source never, trained ones by its weight, held-out ones
    once. Which are taken follows from the seed and from what they say. Copies are made of what is trained already, so no copy of
    a trained row is ever held out.

    Args:
        of: the source of each.
    """
    copies = np.ones(len(names), dtype=np.int32)
    drawn = _drawn(names, seed)
    for source in sources:
        mine = of == source.form.number
        if source.rows is not None and source.rows < int(mine.sum()):
            share = source.rows / int(mine.sum())
            for split in range(3):
                _keep_some(copies, np.flatnonzero(mine & (split_of == split)), drawn, share)
        trained = np.flatnonzero(mine & (split_of == _TRAIN) & (copies > 0))
        whole, part = divmod(source.weight, 1)
        copies[trained] = int(whole)
        more = trained[np.argsort(drawn[trained], kind="stable")][: round(part * len(trained))]
        copies[more] += 1
    return copies


def _keep_some(copies: Copies, rows: NDArray[np.int64], drawn: NDArray[np.uint64], share: float) -> None:
    """In place: only a share of the rows, at least one."""
    if len(rows):
        kept = max(1, round(share * len(rows)))
        copies[rows[np.argsort(drawn[rows], kind="stable")][kept:]] = 0


def _drawn(names: Sequence[bytes], seed: int) -> NDArray[np.uint64]:
    """A number of each, by another draw than the one that divides them."""
    key = seed.to_bytes(8, "little")
    digests = b"".join(hashlib.blake2b(each, digest_size=8, key=key, person=b"sources").digest() for each in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def figures(
    sources: Sequence[Source], of: NDArray[np.int32], split_of: NDArray[np.int8], copies: Copies, read: Sequence[int]
) -> list[dict[str, Any]]:
    """What the report says of each source.

    Args:
        read: rows of each in its file.
    """
    found = []
    for source in sources:
        mine = of == source.form.number
        counts = [int((mine & (split_of == split) & (copies > 0)).sum()) for split in range(3)]
        repeated = int(copies[mine & (split_of == _TRAIN)].sum())
        found.append(
            {
                "name": source.title, "schema": source.form.schema, "weight": source.weight, "rows_asked": source.rows,
                "rows": read[source.form.number], "kept": int(mine.sum()), "train": counts[0], "trained_an_epoch": repeated,
                "val": counts[1], "test": counts[2], "split": source.split,
                "left_out": int((mine & (split_of == LEFT_OUT)).sum()),
            }
        )  # fmt: skip
    return found


def in_words(entry: dict[str, Any]) -> str:
    """ "support.jsonl: 8,412 rows as chat_messages, 6,730 trained (× 2), 841 val, 841 test"; "own.jsonl: 90 rows as alpaca,
    90 val"."""
    left_out = f", {entry['left_out']:,} left out" if entry.get("left_out") else ""
    if split := entry.get("split"):
        return f"{entry['name']}: {entry['rows']:,} rows as {entry['schema']}, {entry[split]:,} {split}{left_out}"
    often = f" (× {entry['weight']:g}: {entry['trained_an_epoch']:,} an epoch)" if entry["weight"] != 1 else ""
    return (
        f"{entry['name']}: {entry['rows']:,} rows as {entry['schema']}, {entry['train']:,} trained{often}, {entry['val']:,} val,"
        f" {entry['test']:,} test{left_out}"
    )
