"""Rows written into each kind of data file, as the libraries that people use write them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_bytes(rows: Rows, delimiter: str = ",") -> bytes:
    """Cells that are no text are JSON, as a spreadsheet of a data set has them."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)
    return file.getvalue().encode()


def as_cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(rows: Rows) -> Any:
    return pa.Table.from_pylist(rows, schema=pa.Table.from_pylist(rows).schema if rows else None)


def parquet(rows: Rows, group: int = 3) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table(rows), sink, row_group_size=group, write_page_checksum=True)
    return bytes(sink.getvalue())


def arrow_file(rows: Rows) -> bytes:
    return _ipc(rows, pa.ipc.new_file)


def arrow_stream(rows: Rows) -> bytes:
    return _ipc(rows, pa.ipc.new_stream)


def _ipc(rows: Rows, new: Callable[..., Any]) -> bytes:
    sink, whole = pa.BufferOutputStream(), table(rows)
    with new(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=3)
    return bytes(sink.getvalue())


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


CONTAINERS: Mapping[str, Callable[[Rows], bytes]] = {
    "jsonl": jsonl,
    "array": lambda rows: json.dumps(rows, ensure_ascii=False).encode(),
    "pretty array": lambda rows: json.dumps(rows, indent=2).encode(),
    "holder": lambda rows: json.dumps({"version": 1, "data": rows, "about": "rows"}, indent=1).encode(),
    "pretty objects": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    "objects on one line": lambda rows: "".join(json.dumps(row) for row in rows).encode(),
    "csv": csv_bytes,
    "tsv": lambda rows: csv_bytes(rows, "\t"),
    "parquet": parquet,
    "arrow file": arrow_file,
    "arrow stream": arrow_stream,
}
PACKED: Mapping[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
SUFFIX = {"csv": ".csv", "tsv": ".tsv", "parquet": ".parquet", "arrow file": ".arrow", "arrow stream": ".arrow"}


def write(folder: Path, container: str, rows: Rows, packed: str = "", stem: str = "rows") -> Path:
    """A file of the rows, called as people call such files."""
    data = CONTAINERS[container](rows)
    path = folder / (
        stem + SUFFIX.get(container, ".jsonl" if container == "jsonl" else ".json") + (f".{packed}" if packed else "")
    )
    path.write_bytes(PACKED[packed](data) if packed else data)
    return path
