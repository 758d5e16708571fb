"""Parquet, row group by row group. A group that is damaged costs its own rows, or those of it that were not yet read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import columns
from pipeline.dataset.readers.columns import BATCH_ROWS, Piece, lost_errors
from pipeline.dataset.readers.reader import DataFile, Reader

_MAGIC = b"PAR1"
_BUFFER_BYTES = 1 << 20


@contextmanager
def _pieces(path: DataFile) -> Iterator[Iterator[Piece]]:
    import pyarrow
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        try:
            # Without a buffer of its own each column of a group is held whole.
            source = pyarrow.PythonFile(file, mode="r")
            opened = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
            groups = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
        except lost_errors() as error:
            reason = (str(error).splitlines() or ["?"])[0][:200]
            raise BadInput(
                f"{path}: is a Parquet file that can't be read: {reason}", "download it again, or write it anew"
            ) from error
        yield (
            Piece(f"row group {number + 1}", max(0, rows), partial(_batches, opened, number))
            for number, rows in enumerate(groups)
        )


def _batches(opened: Any, group: int) -> Iterator[Any]:
    return iter(opened.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], use_threads=False))


def _recognises(path: DataFile) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


READER = Reader(
    name="Parquet",
    suffixes=(".parquet",),
    unit="row",
    is_text=False,
    recognises=_recognises,
    rows=columns.rows(_pieces),
    count=columns.count(_pieces),
    positions=columns.positions(_pieces),
    access=columns.access(_pieces),
)
