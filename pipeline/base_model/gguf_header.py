"""The head of a GGUF file: its metadata and the names and shapes of its tensors, read without the `gguf` package.

That package maps every one of a vocabulary's strings to arrays and takes seconds; planning asks at each start. Reads versions 2
and 3, little-endian. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.common.errors import BadInput

MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Larger than any real one; a damaged file must not make us read for hours or take all memory.
_MOST_ENTRIES = 1 << 17  # of metadata, of tensors
_MOST_ITEMS = 1 << 23  # of an array: the largest vocabularies have a quarter of a million tokens, and more merges
_MOST_STRING_BYTES = 1 << 26
_MOST_HEADER_BYTES = 1 << 29
_MOST_DEPTH = 8  # of arrays in arrays
_MOST_FLOATS = 1 << 12  # of a tensor that is read here: one number for each pair of a head's features
_ALIGNMENT, _F32 = 32, 0  # of the tensors' data where the file names no other; the format's number of a type


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the tensors. Of an array only its length is read: the tokenizer has hundreds of thousands of strings.

    Attributes:
        metadata: key -> scalar or text.
        lengths: key of an array -> its number of items.
        tensors: name -> dimensions, the fastest-moving first (a linear layer's are (in, out)).
        places: name of a tensor -> (its type, where its data begins in the file), in the format's numbers.
        tokenizer_digest: sha256 of every `tokenizer.*` entry as it stands in the file, and of the architecture.
    """

    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, tuple[int, ...]]
    tokenizer_digest: str
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str) -> int | None:
        """`<architecture>.<key>` as a whole number, or None."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if type(value) is int else None


def read_header(path: Path) -> GgufHeader:
    """The head of the file at `path`.

    Raises:
        BadInput: it is not a GGUF file, of a version not known here, or cut short.
    """
    found = path.stat()
    return _header(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4)
def _header(path: Path, _size: int, _modified_ns: int) -> GgufHeader:
    with path.open("rb") as file:
        try:
            return _read(file, path)
        except (struct.error, UnicodeDecodeError, KeyError, _Absurd) as error:
            raise BadInput(f"{path}: damaged or cut short", "download the file again") from error


class _Absurd(ValueError):
    pass


def _read(file: BinaryIO, path: Path) -> GgufHeader:
    if file.read(4) != MAGIC:
        raise BadInput(f"{path}: not a GGUF file", "model.local_path takes a Hugging Face folder or a .gguf file")
    (version,) = struct.unpack("<I", file.read(4))
    if version not in (2, 3):
        raise BadInput(f"{path}: GGUF version {version} (or big-endian) cannot be read; 2 and 3 can", "convert the file again")
    tensor_count, entry_count = struct.unpack("<QQ", file.read(16))
    _sane(max(tensor_count, entry_count), _MOST_ENTRIES)
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    digest = hashlib.sha256()
    for key, value, length, start in _entries(file, path, entry_count):
        if length is None:
            metadata[key] = value
        else:
            lengths[key] = length
        if key.startswith("tokenizer.") or key == "general.architecture":
            digest.update(_reread(file, start))
    tensors: dict[str, tuple[int, ...]] = {}
    offsets: dict[str, tuple[int, int]] = {}
    for _ in range(tensor_count):
        name, shape, kind, offset = _tensor(file)
        tensors[name], offsets[name] = shape, (kind, offset)
    if path.stat().st_size <= file.tell() + max((offset for _, offset in offsets.values()), default=0):
        raise _Absurd("the last tensor is not there")
    start = _aligned(file.tell(), metadata.get("general.alignment"))
    places = {name: (kind, start + offset) for name, (kind, offset) in offsets.items()}
    return GgufHeader(metadata, lengths, tensors, digest.hexdigest(), places)


def _entries(file: BinaryIO, path: Path, count: int) -> Iterator[tuple[str, Any, int | None, int]]:
    """(key, value as `_value` gives it, length of an array, where the entry begins); the file stands behind each."""
    for _ in range(count):
        start = file.tell()
        key = _string(file)
        (kind,) = struct.unpack("<I", file.read(4))
        value, length = _value(file, kind)
        _sane(file.tell(), min(_MOST_HEADER_BYTES, path.stat().st_size))
        yield key, value, length, start


def write_without_vocabulary(path: Path, target: Path) -> None:
    """A file of the same head but for the tokenizer's lists, with a hole in the place of the weights.

    The `gguf` package takes seconds for the strings of a vocabulary, and what the model is does not depend on them.
    """
    header = read_header(path)
    with path.open("rb") as file, target.open("wb") as out:
        version_and_tensors, (entry_count,) = file.read(16), struct.unpack("<Q", file.read(8))
        entries = [
            _reread(file, start)
            for key, _, length, start in _entries(file, path, entry_count)
            if length is None or not key.startswith("tokenizer.")
        ]
        begin = file.tell()
        for _ in header.tensors:
            _tensor(file)
        out.write(version_and_tensors + struct.pack("<Q", len(entries)) + b"".join(entries) + _reread(file, begin))
        weights = path.stat().st_size - min(start for _, start in header.places.values())
        out.truncate(_aligned(out.tell(), header.metadata.get("general.alignment")) + weights)


def _aligned(position: int, alignment: Any) -> int:
    """Where the tensors' data begins."""
    step = alignment if type(alignment) is int and alignment > 0 else _ALIGNMENT
    return -(-position // step) * step


def read_floats(path: Path, header: GgufHeader, tensor: str) -> tuple[float, ...] | None:
    """The numbers of a small tensor; None where they are not held as 32-bit floats, or are too many for one."""
    kind, start = header.places[tensor]
    count = math.prod(header.tensors[tensor])
    if kind != _F32 or count > _MOST_FLOATS:
        return None
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(4 * count)
    return struct.unpack(f"<{count}f", data) if len(data) == 4 * count else None


def _sane(count: int, most: int) -> None:
    if count > most:
        raise _Absurd(count)


def _reread(file: BinaryIO, start: int) -> bytes:
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MOST_STRING_BYTES:
        raise _Absurd(length)
    data = file.read(length)
    if len(data) != length:
        raise _Absurd("cut short")
    return data.decode("utf-8")


def _value(file: BinaryIO, kind: int, depth: int = 0) -> tuple[Any, int | None]:
    """(value, None) of a scalar or string; (None, length) of an array, which is skipped."""
    if kind == _STRING:
        return _string(file), None
    if kind != _ARRAY:
        return _scalar(file, kind), None
    inner, count = struct.unpack("<IQ", file.read(12))
    _sane(count, _MOST_ITEMS)
    _sane(depth, _MOST_DEPTH)
    if inner == _STRING:
        for _ in range(count):
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_STRING_BYTES:
                raise _Absurd(length)
            file.seek(length, 1)
    elif inner == _ARRAY:
        for _ in range(count):
            _value(file, _ARRAY, depth + 1)
    else:
        file.seek(count * struct.calcsize("<" + _SCALARS[inner]), 1)
    return None, count


def _scalar(file: BinaryIO, kind: int) -> Any:
    form = "<" + _SCALARS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _tensor(file: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    """(name, dimensions, type, where its data starts within the data part)."""
    name = _string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise _Absurd(dimensions)
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    kind, offset = struct.unpack("<IQ", file.read(12))
    return name, shape, kind, offset
