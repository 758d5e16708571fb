"""Weights as they lie in a file, as 32-bit numbers and back. numpy has no bfloat16; it is the upper half of a float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The types a weight can be merged in, as safetensors and as everybody else calls them.
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_AS_NUMPY = {"F32": "<f4", "F16": "<f2"}


def widened(data: Any, dtype: str) -> NDArray[np.float32]:
    """The numbers in `data` (bytes, or an array of them), flat; exact.

    Args:
        dtype: of `NAMES`, as safetensors calls it; little-endian.
    """
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(data, _AS_NUMPY[dtype]).astype(np.float32)


def narrowed(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Finite numbers as they lie in a file, each rounded to the nearest, ties to even. Too large ones become infinite.

    Args:
        dtype: of `NAMES`; for BF16 the result is their bits as uint16.
    """
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        to_even = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        return ((bits + to_even) >> np.uint32(16)).astype("<u2")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(_AS_NUMPY[dtype])
