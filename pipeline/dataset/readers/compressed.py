"""Files in gzip, bzip2, xz or zstd, unpacked as they are read. Where one is damaged, what stands before the damage is used."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from pipeline.dataset.readers.reader import DataFile, RawRow, Reader, RowAccess

_BUFFER_BYTES = 1 << 20
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


def _zstd(path: Path) -> Any:
    # Python has zstd from 3.14 on; pyarrow is here for Parquet anyway.
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(path.open("rb"), mode="r"), "zstd")


@dataclass(frozen=True, slots=True)
class Packing:
    """A way of compression: what files begin with and end on, and how the bytes within are read."""

    name: str
    magic: bytes
    suffix: str
    open: Callable[[Path], Any]


PACKINGS = (
    Packing("gzip", b"\x1f\x8b", ".gz", gzip.open),
    Packing("bzip2", b"BZh", ".bz2", bz2.open),
    Packing("xz", b"\xfd7zXZ\x00", ".xz", lzma.open),
    Packing("zstd", b"\x28\xb5\x2f\xfd", ".zst", _zstd),
)
SUFFIXES = tuple(packing.suffix for packing in PACKINGS)


def packing_of(path: Path) -> Packing | None:
    """How the file is compressed, by what it begins with; None where it is not."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((packing for packing in PACKINGS if head.startswith(packing.magic)), None)


class _Stream(io.RawIOBase):
    """The bytes within, which end where they are damaged: the file then says so. Going back begins anew."""

    def __init__(self, file: Unpacked) -> None:
        super().__init__()
        self._file = file
        self._inner = file.packing.open(file.path)
        self._at = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        try:
            data = self._inner.read(len(buffer))
        except _DAMAGE as error:
            self._file.damage = (str(error).splitlines() or [type(error).__name__])[0][:100]
            self._ended = True
            return 0
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a compressed file is not known before it is read")
        if target < self._at:
            self._inner.close()
            self._inner, self._at, self._ended = self._file.packing.open(self._file.path), 0, False
        while self._at < target and self.read(min(_BUFFER_BYTES, target - self._at)):
            pass
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


@dataclass(slots=True)
class Unpacked:
    """`DataFile` of what a compressed file holds.

    Attributes:
        damage: why what stands behind a place is lost, once that place was reached; "" before and for a whole file.
    """

    path: Path
    packing: Packing
    damage: str = ""

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(self.packing.suffix)

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Stream(self), _BUFFER_BYTES))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class _Spooled:
    """`DataFile` of a file without a name: any byte of it is at hand."""

    file: BinaryIO
    name: str

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        return open(f"/dev/fd/{self.file.fileno()}", mode)

    def __str__(self) -> str:
        return self.name


def reader(unpacked: Unpacked, inner: Reader) -> Reader:
    """The reader of a compressed file, bound to it.

    Args:
        inner: the reader of what it holds.
    """

    def rows(_path: DataFile) -> Iterator[RawRow]:
        if not inner.is_text:
            with _spooled(unpacked) as file:
                yield from inner.rows(file)
            return
        last = 0
        for row in inner.rows(unpacked):
            last = row.number
            yield row
        if unpacked.damage:
            yield RawRow(last + 1, {}, f"the {unpacked.packing.name} file is damaged, what follows is lost: {unpacked.damage}")

    def positions(_path: DataFile) -> Iterator[tuple[int, int]]:
        if inner.is_text:
            yield from inner.positions(unpacked)
            return
        with _spooled(unpacked) as file:
            yield from inner.positions(file)

    def count(_path: DataFile) -> int:
        if inner.is_text:
            return inner.count(unpacked) + bool(unpacked.damage)
        with _spooled(unpacked) as file:
            return inner.count(file)

    return replace(
        inner,
        rows=rows,
        positions=positions,
        count=count,
        access=lambda _path: _access(unpacked, inner),
        notice=lambda _path: inner.notice(unpacked) if inner.is_text else "",
    )


@contextmanager
def _access(unpacked: Unpacked, inner: Reader) -> Iterator[RowAccess]:
    with _spooled(unpacked) as file, inner.access(file) as access:
        yield access


@contextmanager
def _spooled(unpacked: Unpacked) -> Iterator[_Spooled]:
    """Unpacked on the disk while any row is looked at: going back in a compressed file means beginning anew."""
    with tempfile.TemporaryFile() as file, unpacked.open("rb") as packed:
        shutil.copyfileobj(packed, file, _BUFFER_BYTES)
        file.flush()
        yield _Spooled(cast(BinaryIO, file), unpacked.name)
