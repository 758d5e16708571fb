"""A GGUF file's weights, as transformers loads and de-quantizes them, with the adapter's sums in new safetensors files.

Unlike safetensors, which go from file to file, the whole model is in memory, in 32 bits: a sum is rounded once here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch
from huggingface_hub import save_torch_state_dict

from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.gguf_reader import read_once
from pipeline.common.text import size
from pipeline.export.merge.bfloat16 import NAMES
from pipeline.export.merge.lora_weights import LowRank
from pipeline.export.merge.safetensors import Changes, Tally, Watch, merged_pieces, not_finite
from pipeline.modeling.load import read_gguf
from pipeline.system.host import read_host
from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, unless_short

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from pipeline.base_model.locate import BaseModel
    from pipeline.export.merge.lora_weights import Adapter

_SHARD_BYTES = 5_000_000_000  # as large as most are published
_BESIDE_BYTES = 128 << 20  # what the libraries take as they load, the rows that are summed at once
_HINT = "free memory on this machine, then humigence merge goes on; the adapter is packaged already"


def merged_dtype(types: Sequence[Any]) -> str:
    """The type a file's weights are merged in: its own where it has one, bfloat16 for a quantized file.

    The blocks of a quantized file are scaled in float16, and most models were trained in bfloat16: rounding their four to eight
    bits to it moves no weight as far as the quantizing did, and nothing that is computed with them overflows.
    """
    floats: list[str] = [kind.name for kind in types if kind.name in NAMES]
    matrices = {kind.name for kind in types if kind.name not in NAMES}
    if matrices or not floats:
        return "BF16"
    return max(set(floats), key=floats.count)


def needed_memory_bytes(base: BaseModel) -> int:
    """What merging into the file takes at most: its weights in 32 bits, and the largest of them twice more as it is read."""
    weights = [math.prod(shape) for shape in read_header(base.path).tensors.values()]
    return 4 * (sum(weights) + 2 * max(weights, default=0)) + _BESIDE_BYTES


def merge_gguf(
    base: BaseModel, adapter: Adapter, folder: Path, watch: Watch, dtype: str | None = None
) -> tuple[Tally, dict[str, Any]]:
    """Write the file's weights into `folder`, the adapter's sums in their place, in shards of 5 GB with an index or in one file.

    Args:
        dtype: what every weight is held in, as safetensors calls it; by default what `merged_dtype` says.

    Returns:
        What it came to, and the model's config.

    Raises:
        BadInput: the file can't be read or lacks a weight, the adapter belongs to another model, a sum is not finite.
        OutOfMemory: there is no room for the weights in 32 bits.
    """
    model = loaded(base)
    if dtype is None:
        with read_once():
            dtype = merged_dtype([each.tensor_type for each in gguf.GGUFReader(str(base.path)).tensors if len(each.shape) > 1])
    model.config.architectures, model.config.dtype = [type(model).__name__], NAMES[dtype]
    config, tied = model.config.to_dict(), set(model.all_tied_weights_keys)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    del model  # so that each weight goes as it is rounded
    changes, tally = Changes(adapter, {name: list(tensor.shape) for name, tensor in weights.items()}), Tally()
    for name in weights:
        weights[name] = _rounded(name, weights[name], changes.of(name), dtype, tally)
        watch(weights[name].nbytes)
    save_torch_state_dict(weights, folder, max_shard_size=_SHARD_BYTES)
    for path in folder.glob("*.safetensors"):
        path.chmod(folder.stat().st_mode & 0o666)  # safetensors makes a file private; a package is there to be used
    return tally, config


def loaded(base: BaseModel) -> PreTrainedModel:
    needed, free = needed_memory_bytes(base), read_host().memory_available_bytes
    if needed > free:
        raise OutOfMemory(f"merging into {base.name}: about {size(needed)} of memory are needed, {size(free)} are free", _HINT)
    model = unless_short(lambda: read_gguf(base))
    if model is NO_ROOM:
        raise OutOfMemory(f"memory ran out while {base.name} was read; about {size(needed)} are needed", _HINT)
    return model


def _rounded(name: str, values: torch.Tensor, change: LowRank | None, dtype: str, tally: Tally) -> torch.Tensor:
    """A weight in the type it is merged in, with what the adapter adds to it; `values` are in 32 bits."""
    kind: torch.dtype = getattr(torch, NAMES[dtype])
    if change is None:
        held = values.to(kind)
        if not torch.isfinite(held).all():
            raise not_finite(name, dtype)
        return held
    rows = values.numpy()
    pieces = list(merged_pieces(name, change, lambda begin, end: rows[begin:end], dtype, tally))
    return torch.from_numpy(np.concatenate(pieces)).view(kind)
