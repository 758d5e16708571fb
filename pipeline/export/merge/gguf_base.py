"""A GGUF file's weights, de-quantized one at a time as transformers de-quantizes them, into new safetensors files.

Unlike safetensors, GGUF needs torch: transformers names a file's weights after the modules of a model, which is made without any
memory for its weights.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
    load_gguf_checkpoint,
)

from pipeline.base_model.gguf_reader import read_once
from pipeline.base_model.locate import INDEX, WEIGHTS, BaseModel
from pipeline.common.errors import BadInput
from pipeline.common.files import write_json
from pipeline.export.merge.bfloat16 import BYTES, NAMES, narrowed
from pipeline.export.merge.lora_weights import Adapter, LowRank
from pipeline.export.merge.safetensors import Changes, Tally, Watch, merged_pieces

_SHARD_BYTES = 5_000_000_000  # as large as most are published
_CONVERTED = 1 << 21  # weights that are rounded at once


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


class GgufWeights:
    """The weights of a GGUF file, by the names of a Hugging Face model.

    Attributes:
        config: of the model, as it is saved beside the weights.
        sizes: weight -> its dimensions; tied ones once.
        dtype: what they are merged in.
    """

    def __init__(self, base: BaseModel) -> None:
        folder, name = str(base.path.parent), base.path.name
        with read_once():
            self.config: PreTrainedConfig = AutoConfig.from_pretrained(folder, gguf_file=name, local_files_only=True)
            self._parsed: dict[str, Any] = load_gguf_checkpoint(str(base.path))
            self._reader = gguf.GGUFReader(str(base.path))
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config)
        self._processor: TensorProcessor = TENSOR_PROCESSORS.get(_architecture(self._reader), TensorProcessor)(
            config=self._parsed["config"]
        )
        with read_once():
            self._names: dict[str, str] = get_gguf_hf_weights_map(model, self._processor)
        self.sizes: dict[str, Sequence[int]] = {weight: list(tensor.shape) for weight, tensor in model.state_dict().items()}
        for tied in model.all_tied_weights_keys:
            self.sizes.pop(tied, None)
        self.dtype: str = merged_dtype([each.tensor_type for each in self._reader.tensors if len(each.shape) > 1])
        self.config.architectures = [type(model).__name__]
        self.config.dtype = NAMES[self.dtype]

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each weight with its numbers. Experts of a mixture, which a file holds apart, come together at the end."""
        parsed = {**self._parsed, "tensors": {}}
        for tensor in self._reader.tensors:
            done = self._processor.process(
                weights=gguf.dequantize(tensor.data, tensor.tensor_type),
                name=tensor.name,
                tensor_key_mapping=self._names,
                parsed_parameters=parsed,
            )
            weight = self._names.get(done.name, "")
            if weight in self.sizes:
                yield weight, np.ascontiguousarray(done.weights, dtype=np.float32)
        for weight, values in parsed["tensors"].items():
            if weight in self.sizes:
                yield weight, values.float().numpy()


def _architecture(reader: gguf.GGUFReader) -> str:
    return str(reader.fields["general.architecture"].contents())


def merge_gguf(weights: GgufWeights, adapter: Adapter, folder: Path, watch: Watch) -> Tally:
    """Write the weights into `folder`, the adapter's sums in their place. Errors as for `merge_files`.

    Raises:
        BadInput: the file lacks a weight of the model, too.
    """
    changes, tally = Changes(adapter, weights.sizes), Tally()
    missing = set(weights.sizes)
    with _Shards(folder, weights.sizes, weights.dtype) as shards:
        for name, values in weights:
            if list(values.shape) != weights.sizes[name]:
                raise BadInput(f"merging {name}: the file has {list(values.shape)}, the model {weights.sizes[name]}")
            change = changes.of(name)
            shards.add(name, values, change, tally)
            missing.discard(name)
            watch(values.size * BYTES[weights.dtype])
        if missing:
            raise adapter.does_not_fit(f"the base model's file lacks {min(missing)}")
    return tally


class _Shards:
    """Safetensors files that are written weight by weight; their number is known at the end."""

    def __init__(self, folder: Path, sizes: Mapping[str, Sequence[int]], dtype: str) -> None:
        self._folder, self._dtype = folder, dtype
        # A header with every weight in it and the largest numbers: room for any part of them.
        largest = {name: _entry(dtype, size, 10**15, 10**15) for name, size in sizes.items()}
        self._header_bytes = -(-len(_header(largest)) // 8) * 8
        self._shards: list[dict[str, Any]] = []
        self._end = 0
        self._file: Any = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._close()
        if kind is None:
            self._name()

    def add(self, name: str, values: NDArray[np.float32], change: LowRank | None, tally: Tally) -> None:
        size = values.size * BYTES[self._dtype]
        if self._file is None or (self._end and self._end + size > _SHARD_BYTES):
            self._close()
            self._open()
        pieces = self._rounded(values) if change is None else self._merged(name, values, change, tally)
        for piece in pieces:
            self._file.write(np.ascontiguousarray(piece).data.cast("B"))
        self._shards[-1][name] = _entry(self._dtype, list(values.shape), self._end, self._end + size)
        self._end += size

    def _rounded(self, values: NDArray[np.float32]) -> Iterator[NDArray[Any]]:
        flat = values.reshape(-1)
        for begin in range(0, flat.size, _CONVERTED):
            yield narrowed(flat[begin : begin + _CONVERTED], self._dtype)

    def _merged(self, name: str, values: NDArray[np.float32], change: LowRank, tally: Tally) -> Iterator[NDArray[Any]]:
        def read(begin: int, end: int) -> NDArray[np.float32]:
            return values[begin:end]

        return merged_pieces(name, change, read, self._dtype, tally)

    def _open(self) -> None:
        self._shards.append({})
        self._end = 0
        self._file = self._path(len(self._shards)).open("xb")
        self._file.write(b" " * (8 + self._header_bytes))

    def _close(self) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        self._file.write(struct.pack("<Q", self._header_bytes))
        self._file.write(_header(self._shards[-1]).ljust(self._header_bytes))
        self._file.close()
        self._file = None

    def _path(self, number: int) -> Path:
        return self._folder / f"model-{number:05d}.safetensors"

    def _name(self) -> None:
        """One file, or files that say how many they are with an index beside them."""
        count = len(self._shards)
        if count == 1:
            os.rename(self._path(1), self._folder / WEIGHTS)
            return
        places = {}
        for number, shard in enumerate(self._shards, start=1):
            name = f"model-{number:05d}-of-{count:05d}.safetensors"
            os.rename(self._path(number), self._folder / name)
            places.update(dict.fromkeys(shard, name))
        total = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for shard in self._shards for entry in shard.values())
        write_json(self._folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))})


def _entry(dtype: str, shape: Sequence[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _header(entries: dict[str, Any]) -> bytes:
    return json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
