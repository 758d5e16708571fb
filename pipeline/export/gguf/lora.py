"""The adapter alone as a GGUF file, which llama.cpp adds to a base model's file as it computes (`--lora`).

Source of names and scale: llama.cpp, src/llama-adapter.cpp: `alpha / rank` times B·A, tensors `NAME.lora_a` and `NAME.lora_b`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from pipeline.base_model.gguf_families import GgufFamily, family_for, gguf_refusal
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.common.redact import redact
from pipeline.export.gguf.metadata import config_of, head_dim, sizes_of_file
from pipeline.export.gguf.sources import OUTSIDE, interleaved, is_interleaved, of_language_model
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import Watch

_HINT = "take gguf_lora out of export.formats; a gguf_… file holds the sums"


def write_lora(path: Path, base: BaseModel, adapter: Adapter, name: str, watch: Watch) -> None:
    """Write the adapter's file at `path`, which is not there, in 32 bits.

    Args:
        name: of the model.
        watch: called with the bytes of each tensor when it is known; may raise.

    Raises:
        BadInput: no GGUF is made of this base, the adapter belongs to another, or is more than B·A.
    """
    family, refusal = family_for(base), gguf_refusal(base)
    if family is None or refusal:
        raise BadInput(f"{base.name}: no GGUF file is made of it: {refusal}", _HINT)
    layers, head = _sizes(base)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.architecture.upper()], layers)
    writer = gguf.GGUFWriter(path, family.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(redact(name))
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = 0.0
    for layer in adapter.layers:
        if layer.startswith(OUTSIDE):
            continue  # of what sees images: a file of the language model has none of it
        known = names.get_name(of_language_model(layer) + ".weight", (".weight",))
        if known is None:
            raise adapter.does_not_fit(f"{base.name} has no weight of {layer}")
        change = adapter.of(layer)
        if change.lengths is not None:
            raise BadInput(f"{base.name}: llama.cpp adds no DoRA adapter to a model as it computes", _HINT)
        alpha = change.scale * len(change.down)
        up = _as_held(change.up, known, family, head)
        for part, values in (("lora_a", change.down), ("lora_b", up)):
            data = np.ascontiguousarray(values, np.float32)
            writer.add_tensor(f"{known}.{part}", data)
            watch(data.nbytes)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _as_held(up: Any, known: str, family: GgufFamily, head: int) -> Any:
    """B with its rows where llama.cpp has those of the weight."""
    return interleaved(up, head) if is_interleaved(known, family) else up


def _sizes(base: BaseModel) -> tuple[int, int]:
    """Decoder layers, and features of a head."""
    if base.kind == "gguf":
        return sizes_of_file(base)
    config = config_of(base)
    return int(config.num_hidden_layers), head_dim(config)
