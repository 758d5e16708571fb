"""The head of a GGUF file: its metadata and the names and shapes of its tensors, read without the `gguf` package.

That package maps every one of a vocabulary's strings to arrays and takes seconds; planning asks at each start. Reads versions 2
and 3, little-endian. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
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


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the tensors. Of an array only its length is read: the tokenizer has hundreds of thousands of strings.

    Attributes:
        metadata: key -> scalar or text.
        lengths: key of an array -> its number of items.
        tensors: name -> dimensions, the fastest-moving first (a linear layer's are (in, out)).
        tokenizer_digest: sha256 of every `tokenizer.*` entry as it stands in the file, and of the architecture.
    """

    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, tuple[int, ...]]
    tokenizer_digest: str

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
    for _ in range(entry_count):
        start = file.tell()
        key = _string(file)
        (kind,) = struct.unpack("<I", file.read(4))
        value, length = _value(file, kind)
        _sane(file.tell(), min(_MOST_HEADER_BYTES, path.stat().st_size))
        if length is None:
            metadata[key] = value
        else:
            lengths[key] = length
        if key.startswith("tokenizer.") or key == "general.architecture":
            digest.update(_reread(file, start))
    tensors: dict[str, tuple[int, ...]] = {}
    furthest = 0
    for _ in range(tensor_count):
        name, shape, offset = _tensor(file)
        tensors[name] = shape
        furthest = max(furthest, offset)
    if path.stat().st_size <= file.tell() + furthest:
        raise _Absurd("the last tensor is not there")
    return GgufHeader(metadata, lengths, tensors, digest.hexdigest())


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


def _tensor(file: BinaryIO) -> tuple[str, tuple[int, ...], int]:
    """(name, dimensions, where its data starts within the data part)."""
    name = _string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise _Absurd(dimensions)
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    _kind, offset = struct.unpack("<IQ", file.read(12))
    return name, shape, offset
