"""The same rows in each kind of data file, written piece by piece, so that a million of them need no memory."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("jsonl", "csv", "parquet", "arrow", "array", "gz", "zst")
_SUFFIX = {"array": ".json", "gz": ".jsonl.gz", "zst": ".jsonl.zst"}
_GROUP = 10_000  # rows of a row group or a record batch


def write(rows: Path, container: str) -> Path:
    """A file beside `rows`, which is JSONL, with the same rows in another kind of file; `rows` itself for jsonl."""
    if container == "jsonl":
        return rows
    path = rows.with_name(rows.stem + _SUFFIX.get(container, f".{container}"))
    with rows.open("rb") as source:
        if container == "gz":
            with gzip.open(path, "wb", compresslevel=1) as target:
                shutil.copyfileobj(source, target)
        elif container == "zst":
            with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
                while piece := source.read(1 << 20):
                    stream.write(piece)
        elif container == "array":
            _write_array(source, path)
        elif container == "csv":
            _write_csv(source, path)
        else:
            _write_table(source, path, container)
    return path


def _write_array(source: Iterator[bytes], path: Path) -> None:
    with path.open("wb") as target:
        for number, line in enumerate(source):
            target.write((b"[" if not number else b",\n") + line.rstrip(b"\n"))
        target.write(b"]\n")


def _write_csv(source: Iterator[bytes], path: Path) -> None:
    """Cells that are no text are JSON, as data sets have them in tables."""
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        for number, line in enumerate(source):
            row = json.loads(line)
            if not number:
                writer.writerow(row)
            writer.writerow(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in row.values())


def _write_table(source: Iterator[bytes], path: Path, container: str) -> None:
    writer: Any = None
    for lines in iter(lambda: list(itertools.islice(source, _GROUP)), []):
        table = pa.Table.from_pylist([json.loads(line) for line in lines])
        if writer is None:
            new = pq.ParquetWriter if container == "parquet" else pa.ipc.new_file
            writer = new(str(path), table.schema)
        writer.write_table(table)
    writer.close()
