"""Writing a GGUF file: what it says first, then each tensor as it is computed, quantized some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.export.gguf.sources import Tensor
from pipeline.export.merge.safetensors import Watch, merge_fault
from pipeline.system.out_of_memory import NO_ROOM, unless_short

# What the `gguf` package quantizes; its numbers of whole files.
KINDS = {
    "f16": ("F16", "MOSTLY_F16"), "bf16": ("BF16", "MOSTLY_BF16"), "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q5_1": ("Q5_1", "MOSTLY_Q5_1"), "q5_0": ("Q5_0", "MOSTLY_Q5_0"), "q4_1": ("Q4_1", "MOSTLY_Q4_1"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
}  # fmt: skip
# Every token passes through them, and rounding to few bits costs the most there: no file holds them in fewer than eight.
_EMBEDDINGS = ("token_embd.weight", "output.weight")
_BLOCK = 32  # weights that share a scale


@dataclass(frozen=True)
class Held:
    """How a tensor lies in the file."""

    kind: Any
    bytes: int


def held(tensor: Tensor, kind: str) -> Held:
    """How a tensor is held in a file of a kind (`KINDS`): what has one dimension in 32 bits, rows of no whole blocks in 16."""
    name = KINDS[kind][0]
    if len(tensor.shape) == 1:
        name = "F32"
    elif name not in ("F16", "BF16"):
        name = "Q8_0" if tensor.name in _EMBEDDINGS else name
        name = name if tensor.shape[-1] % _BLOCK == 0 else "F16"
    found = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[found]
    return Held(found, math.prod(tensor.shape) // block * size)


def file_bytes(tensors: Sequence[Tensor], kind: str) -> int:
    """Bytes of all tensors."""
    return sum(held(each, kind).bytes for each in tensors)


def write_file(path: Path, writer: Any, tensors: Sequence[Tensor], kind: str, watch: Watch) -> None:
    """Write the file at `path`, which is not there.

    Args:
        writer: a `gguf.GGUFWriter` that has been told everything but the tensors.
        watch: called with the bytes of each piece when it is written; may raise.

    Raises:
        BadInput: a weight is no finite number of its type.
        OutOfMemory: there is no room for a few rows.
    """
    writer.add_file_type(gguf.LlamaFileType[KINDS[kind][1]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for each in tensors:
        how = held(each, kind)
        writer.add_tensor_info(each.name, each.shape, np.dtype(np.float32), how.bytes, raw_dtype=how.kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file = writer.fout[0]
    writer.write_padding(file, file.tell())
    for each in tensors:
        _write_tensor(file, each, held(each, kind), watch)
        writer.write_padding(file, held(each, kind).bytes)
    writer.close()


def _write_tensor(file: Any, tensor: Tensor, how: Held, watch: Watch) -> None:
    written = 0
    for piece in tensor.pieces():
        data = unless_short(_rounding(tensor.name, piece, how.kind))
        if data is NO_ROOM:
            raise merge_fault(tensor.name)
        file.write(data.data.cast("B"))
        written += data.nbytes
        watch(data.nbytes)
    if written != how.bytes:
        raise BadInput(f"{tensor.name} has another size than its file says", "humigence model check")


def _rounding(name: str, piece: NDArray[np.float32], kind: Any) -> Callable[[], NDArray[Any]]:
    def rounded() -> NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            data = np.ascontiguousarray(gguf.quantize(np.ascontiguousarray(piece), kind))
        if not _finite(piece, data, kind):
            hint = "train again with a lower train.lr" + ("; bf16 holds larger numbers" if kind.name == "F16" else "")
            raise BadInput(f"writing {name}: a weight is no finite number of type {kind.name}", hint)
        return data

    return rounded


def _finite(piece: NDArray[np.float32], data: NDArray[Any], kind: Any) -> bool:
    if not np.isfinite(piece).all():
        return False
    if kind.name == "F16":
        return bool(np.isfinite(data).all())
    # A block's scale is a float16.
    return kind.name in ("F32", "BF16") or bool(np.abs(piece).max(initial=0) < 65_504)
