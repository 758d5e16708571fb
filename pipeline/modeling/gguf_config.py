"""A GGUF file's config as transformers makes it, and what of the file it leaves out: named, never dropped in silence.

transformers' reader takes the metadata and tensors it knows and passes over the rest, also where that changes what is computed (a
soft cap of the logits, a window, a scaled rotary embedding, a bias). So every entry below the architecture's name is held against
the config that came out, and every tensor against the weights it was mapped to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, modeling_gguf_pytorch_utils
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from pipeline.base_model.gguf_header import GgufHeader, read_floats, read_header, write_without_vocabulary
from pipeline.base_model.gguf_reader import read_once
from pipeline.base_model.gguf_rope import ROPE_FREQS, rope_scaling
from pipeline.common.errors import BadInput
from pipeline.modeling.gguf_metadata import carried_keys, has_own_conversion, unused_metadata

_HINT = "choose the Hugging Face folder the file was made from, or another file"
_MOST_NAMED = 4


def gguf_config(path: Path, name: str) -> Any:
    """The config of the model in a file, Llama 3's rotary scaling included.

    Args:
        name: what a person calls the model.

    Raises:
        BadInput: an entry of the file's metadata changes what is computed and is not used, or the rotary scaling can't be told.
        OSError, ValueError, KeyError …: as transformers raises them for a file it can't read.
    """
    header = read_header(path)
    scaling = rope_scaling(path, header)
    config = _read_config(path, header)
    if scaling is not None:
        config.rope_parameters = dict(config.rope_parameters) | scaling
        _require_same_frequencies(path, header, config, name)
    if unused := [*unused_metadata(header, config), *_parts(header)]:
        raise _passed_over(name, "metadata", unused)
    return config


def _read_config(path: Path, header: GgufHeader) -> Any:
    if has_own_conversion(header):  # whose reader passes over a vocabulary in milliseconds
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    with TemporaryDirectory(prefix="humigence-") as folder:
        write_without_vocabulary(path, Path(folder) / path.name)
        config = AutoConfig.from_pretrained(folder, gguf_file=path.name, local_files_only=True)
    if tokens := header.lengths.get("tokenizer.ggml.tokens"):
        known = header.number("vocab_size") if "vocab_size" in carried_keys(header) else None
        config.vocab_size = known or tokens
    config.name_or_path = config._name_or_path = str(path.parent)
    return config


def require_every_tensor(path: Path, name: str, model: Any, unexpected: Iterable[str] = ()) -> None:
    """Raise `BadInput` for a tensor of the file that becomes no weight of the model.

    Args:
        model: of the file's config, loaded or on the meta device.
        unexpected: names that loading found no place for.
    """
    tensors = set(read_header(path).tensors) - {ROPE_FREQS}
    if not has_own_conversion(read_header(path)):
        processors = modeling_gguf_pytorch_utils.TENSOR_PROCESSORS
        processor = processors.get(read_header(path).architecture, modeling_gguf_pytorch_utils.TensorProcessor)
        with read_once():
            mapped = modeling_gguf_pytorch_utils.get_gguf_hf_weights_map(model, processor(config=model.config.to_dict()))
        # The experts of a mixture are one parameter, and mapped without the ending.
        unexpected = [*unexpected, *(each for each in tensors if not {each, each.removesuffix(".weight")} & set(mapped))]
    if unexpected:
        raise _passed_over(name, "tensors", sorted(set(unexpected)))


def _passed_over(name: str, what: str, unused: list[str]) -> BadInput:
    more = f" and {len(unused) - _MOST_NAMED} more" if len(unused) > _MOST_NAMED else ""
    named = ", ".join(unused[:_MOST_NAMED])
    return BadInput(f"{name}: {what} of the GGUF file that change the computation would not be used: {named}{more}", _HINT)


def _require_same_frequencies(path: Path, header: GgufHeader, config: Any, name: str) -> None:
    """The scaled frequencies that transformers computes are the plain ones divided by the file's numbers."""
    divisors = torch.tensor(read_floats(path, header, ROPE_FREQS))
    found, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    base = config.rope_parameters["rope_theta"]
    plain = base ** -(torch.arange(len(divisors), dtype=torch.float64) / len(divisors))
    if found.shape != divisors.shape or not torch.allclose(found.double(), plain / divisors, rtol=1e-4):
        raise _passed_over(name, "tensors", [ROPE_FREQS])


def _parts(header: GgufHeader) -> Iterator[str]:
    parts = header.metadata.get("split.count")
    if type(parts) is int and parts > 1:
        yield f"split.count = {parts} (the file is one of several)"
