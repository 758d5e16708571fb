"""How transformers reads a GGUF file, without reading it anew for the config, the weights and the tokenizer each.

The `gguf` package's reader takes seconds for a file of usual vocabulary, and transformers makes one each time it looks into it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gguf
import numpy as np
from transformers import modeling_gguf_pytorch_utils

_Theirs = gguf.GGUFReader


class _Reader(gguf.GGUFReader):  # type: ignore[misc]
    """Cuts the file's fields out of a plain array over the mapped file: a `numpy.memmap` makes another of its kind of each of the
    100,000 pieces, which takes most of the time."""

    @property
    def data(self) -> Any:
        return self._plain

    @data.setter
    def data(self, mapped: Any) -> None:
        self._plain = np.asarray(mapped)


@contextmanager
def read_once() -> Iterator[None]:
    """While a GGUF file is read: one reader serves the process, the table of tensor names is made once and not once for every
    module of the model (5 s), and no progress bar is drawn over a person's terminal.
    """
    name_map, bar = gguf.get_tensor_name_map, modeling_gguf_pytorch_utils.tqdm
    gguf.GGUFReader = _reader_of
    gguf.get_tensor_name_map = functools.cache(name_map)
    modeling_gguf_pytorch_utils.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        gguf.GGUFReader = _Theirs
        gguf.get_tensor_name_map, modeling_gguf_pytorch_utils.tqdm = name_map, bar


def _reader_of(path: str | os.PathLike[str]) -> Any:
    found = os.stat(path)
    return _reader(os.path.realpath(path), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _reader(path: str, _size: int, _modified_ns: int) -> Any:
    return _Reader(path)
