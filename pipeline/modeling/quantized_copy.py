"""A base model's weights as they are held once they are quantized, kept on disk: the second start reads these.

Reading a GGUF file de-quantizes each weight in Python and quantizes it again, for the same bits each time; a large model of
16-bit files is read four times as long as its 4-bit weights are. A copy is an ordinary checkpoint that bitsandbytes has quantized
(safetensors, its config beside it), with a digest. It holds for the very files, settings and library versions it was made of, and
one that is damaged counts as none.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from pipeline.common import cache
from pipeline.common.cache import SEAL, cache_folder, forget, last_used_first
from pipeline.common.files import disk_bytes, fingerprint, new_folder, read_json, sha256_file, write_json
from pipeline.system.disk import free_disk_bytes, is_full

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.base_model.locate import BaseModel

WORTH_SECONDS = 2.0
"""What was read and quantized in less is not kept."""
KEPT_BYTES = 20 << 30
"""Of all copies; the one that was not used for the longest goes first."""
_LEFT_FREE = 5 << 30  # bytes of the disk
_ALIGNMENT = 64  # bytes, of torch's own memory
# Raise it when a copy of the same model would be written otherwise.
_VERSION = 1
_WEIGHTS = "model.safetensors"
_LIBRARIES = ("torch", "transformers", "bitsandbytes")

_log = logging.getLogger(__name__)


def folder_of(base: BaseModel, quantization: Mapping[str, Any], dtype: torch.dtype, compute: torch.dtype, device: str) -> Path:
    """Where the copy of these very weights is, or would be.

    Args:
        quantization: arguments of transformers' BitsAndBytesConfig.
        dtype: of what is not quantized.
        compute: what quantized weights are multiplied in.
        device: "cuda" or "cpu", on which they are quantized: their roundings differ.
    """
    files = [(str(each.resolve()), each.stat().st_size, each.stat().st_mtime_ns) for each in base.weight_files()]
    versions = [importlib.metadata.version(each) for each in _LIBRARIES]
    how = [dict(quantization), str(dtype), str(compute), device]
    return cache_folder("quantized") / fingerprint("quantized", _VERSION, versions, how, base.weights_fingerprint(), files)


def is_whole(folder: Path) -> bool:
    """Whether a copy is there with the bytes that were written; a damaged one is removed."""
    return cache.is_whole(folder, lambda copy: sha256_file(copy / _WEIGHTS))


def keep(folder: Path, model: PreTrainedModel) -> None:
    """Write the copy, where the disk has room for it; nothing is lost where it has not.

    Args:
        model: as it was loaded, before anything of it is changed.
    """
    tensors = _tensors(model)
    needed = sum(each.nbytes for each in tensors.values())
    try:
        if needed > KEPT_BYTES or free_disk_bytes(folder) < needed + _LEFT_FREE:
            return
        _make_room(folder.parent, KEPT_BYTES - needed)
        with new_folder(folder) as made:
            save_file(tensors, made / _WEIGHTS, metadata={"format": "pt"})
            model.config.to_json_file(str(made / "config.json"), use_diff=False)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(made)
            aligned = [name for name, tensor in _products(model) if not tensor.data_ptr() % _ALIGNMENT]
            write_json(made / SEAL, {"sha256": sha256_file(made / _WEIGHTS), "aligned": aligned})
    except Exception as error:
        if not isinstance(error, OSError) and not is_full(error):
            raise
        _log.info("no copy of the quantized weights was kept: %s", error)


def align(folder: Path, model: PreTrainedModel) -> None:
    """Move weights that a copy was read into to where vector units begin, if they began there before: batched products on a CPU
    add up in another order where they do not, and a resumed run would not go on to the same bits."""
    before = set(read_json(folder / SEAL)["aligned"])
    for name, tensor in _products(model):
        if name in before and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def _products(model: PreTrainedModel) -> list[tuple[str, torch.Tensor]]:
    """What is multiplied with as it lies in this machine's memory."""
    on_cpu = (each for each in model.named_parameters() if each[1].device.type == "cpu")
    return [(name, tensor) for name, tensor in on_cpu if tensor.is_floating_point()]


def _tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """By name, those that are tied once."""
    found: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        found[name] = tensor.detach().to("cpu").contiguous()
    return found


def _make_room(copies: Path, most: int) -> None:
    """Remove those that were used the longest ago, until the others take at most `most` bytes."""
    with suppress(FileNotFoundError):
        total = 0
        for copy in last_used_first(copies):
            total += disk_bytes(copy)
            if total > most:
                forget(copy)
