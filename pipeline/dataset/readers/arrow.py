"""Arrow, a file or a stream, batch by batch. A damaged batch costs its own rows; where a stream breaks off, all behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import columns
from pipeline.dataset.readers.columns import BATCH_ROWS, Piece, lost_errors
from pipeline.dataset.readers.reader import DataFile, Reader

_FILE_MAGIC = b"ARROW1"
_STREAM_MAGIC = b"\xff\xff\xff\xff"


@contextmanager
def _pieces(path: DataFile) -> Iterator[Iterator[Piece]]:
    import pyarrow

    with path.open("rb") as file:
        try:
            source = pyarrow.PythonFile(file, mode="r")
            is_file = _begins(path, _FILE_MAGIC)
            opened = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        except lost_errors() as error:
            reason = (str(error).splitlines() or ["?"])[0][:200]
            raise BadInput(
                f"{path}: is an Arrow file that can't be read: {reason}", "download it again, or write it anew"
            ) from error
        yield _of_file(opened) if is_file else _of_stream(opened)


def _of_file(opened: Any) -> Iterator[Piece]:
    for number in range(opened.num_record_batches):
        try:
            batch = opened.get_batch(number)
        except lost_errors() as error:
            yield _lost(number, error)
        else:
            yield _piece(number, batch)


def _of_stream(opened: Any) -> Iterator[Piece]:
    number = 0
    while True:
        try:
            batch = opened.read_next_batch()
        except StopIteration:
            return
        except lost_errors() as error:
            yield _lost(number, error)
            return
        yield _piece(number, batch)
        number += 1


def _piece(number: int, batch: Any) -> Piece:
    return Piece(f"record batch {number + 1}", batch.num_rows, partial(_slices, batch))


def _slices(batch: Any) -> Iterator[Any]:
    # Offsets of a stranger's file are followed blindly otherwise.
    batch.validate(full=True)
    return (batch.slice(at, BATCH_ROWS) for at in range(0, batch.num_rows, BATCH_ROWS))


def _lost(number: int, error: Exception) -> Piece:
    """One row stands for those that can't be counted any more."""

    def batches() -> Iterator[Any]:
        raise error

    return Piece(f"record batch {number + 1}", 1, batches)


def _begins(path: DataFile, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _recognises(path: DataFile) -> bool:
    return _begins(path, _FILE_MAGIC) or _begins(path, _STREAM_MAGIC)


READER = Reader(
    name="Arrow",
    suffixes=(".arrow", ".feather"),
    unit="row",
    is_text=False,
    recognises=_recognises,
    rows=columns.rows(_pieces),
    count=columns.count(_pieces),
    positions=columns.positions(_pieces),
    access=columns.access(_pieces),
)
