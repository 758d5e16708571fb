"""What the files of a model folder from a stranger may be, and may say, before anything is loaded or allocated for them.

Refused: links and names that lead out of the folder, files of absurd size, pickles under any name, code, headers and sizes that
contradict the bytes that are there.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.common.strict_json import keys_once

# The largest in use have a few thousand tensors, a megabyte.
_MOST_HEADER_BYTES = 16 << 20
# Names of the files that are read, and more bytes than any real one has: vocabularies of a million words fit.
_MOST_BYTES: dict[str, int] = {
    "config.json": 4 << 20, "generation_config.json": 1 << 20, "tokenizer.json": 256 << 20, "tokenizer.model": 64 << 20,
    "tokenizer_config.json": 32 << 20, "special_tokens_map.json": 4 << 20, "added_tokens.json": 32 << 20, "vocab.json": 64 << 20,
    "vocab.txt": 64 << 20, "merges.txt": 64 << 20, "spiece.model": 64 << 20, "tekken.json": 64 << 20,
    "chat_template.jinja": 1 << 20, "chat_template.json": 1 << 20, "model.safetensors.index.json": 32 << 20,
    "adapter_config.json": 1 << 20, "humigence.json": 4 << 20,
}  # fmt: skip
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16,
    "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6,
    "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_PICKLE_BEGINS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def file_problems(folder: Path) -> list[str]:
    """Files of the folder that are not read, each with the reason."""
    places = [folder / name for name in _MOST_BYTES]
    templates = folder / "chat_templates"
    places += [templates, *sorted(templates.glob("*"))[:100]] if templates.is_dir() or templates.is_symlink() else []
    return [problem for path in places if (problem := _file_problem(path, folder))]


def _file_problem(path: Path, folder: Path) -> str:
    if not path.exists():
        return ""
    if problem := leads_out(path, folder):
        return problem
    most, size = _MOST_BYTES.get(path.name, 1 << 20), path.stat().st_size
    return f"{path.name} has {size >> 20:,} MiB; none in use has more than {most >> 20}" if path.is_file() and size > most else ""


def leads_out(path: Path, folder: Path) -> str:
    """Why a file of the folder is really somewhere else, or "". A snapshot in a hub cache keeps its files with the repository."""
    try:
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError):
        return f"{path.name} is a link that leads nowhere"
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        home = home.parent.parent
    return "" if real.is_relative_to(home) else f"{path.name} is a link that leads out of the folder, to {real}"


def shard_problem(name: Any) -> str:
    """Why an index may not name such a weight file, or ""."""
    if not isinstance(name, str) or not name or name != Path(name).name or "\0" in name or name in (".", ".."):
        return f"the index of the weights names {str(name)[:100]!r}, which is no file of this folder"
    if not name.endswith(".safetensors"):
        return f"the index of the weights names {name[:100]!r}; only safetensors are read, the rest can run code when loaded"
    return ""


def code_problem(config: dict[str, Any], name: str) -> str:
    """What code a config asks for, in words."""
    asked = config.get("auto_map")
    classes = sorted({str(value) for value in asked.values()}) if isinstance(asked, dict) else [str(asked)]
    return f"{name} asks for its own Python code (auto_map: {', '.join(classes)[:200]}); Humigence never runs code from a model"


# --------------------------------------------------------------------------------------------------------- safetensors


def weights_problem(path: Path) -> str:
    """Why a safetensors file can't be what its header says, or "". Reads the header only.

    The format's rules: each tensor has as many bytes as its type and shape make, tensors follow one another without gaps, and the
    file ends with the last. Source: https://github.com/huggingface/safetensors#format
    """
    with path.open("rb") as file:
        begins = file.read(40)
    if begins.startswith(b"version https://git-lfs"):
        return f"{path.name} is a Git LFS pointer, not the weights: run git lfs pull"
    # A header may be as long as a pickle's first bytes say (1,152 is \x80\x04); only a header goes on with a brace.
    if begins[8:9] != b"{" and begins.startswith((*_PICKLE_BEGINS, b"PK\x03\x04")):
        return f"{path.name} is a pickle under the name of safetensors; loading one can run code, so it is not read"
    try:
        header, start = safetensors_header(path)
        return next(_lies(header, start, path.stat().st_size, path.name), "")
    except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
        return f"{path.name} is damaged: {str(error)[:200]}"


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """(name -> dtype, shape, data_offsets; where the data starts). Raises ValueError and struct.error for a damaged file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        if length > _MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length >> 20:,} MiB")
        header = json.loads(file.read(length), object_pairs_hook=keys_once)
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    return header, 8 + length


def _lies(header: dict[str, Any], start: int, size: int, name: str) -> Iterator[str]:
    tensors = [(key, each) for key, each in header.items() if key != "__metadata__"]
    places = sorted((*_place(key, each), key) for key, each in tensors)
    end = start + (places[-1][1] if places else 0)
    if size < end:
        yield f"{name} is cut short: {size:,} bytes of {end:,}"
    before = 0
    for begin, after, key in places:
        if begin != before:
            yield f"{name} is damaged: the bytes of {key[:100]!r} do not follow those of the one before"
        before = after
    if size > end:
        yield f"{name} is damaged: {size - end:,} bytes at its end belong to no weight"


def _place(key: str, tensor: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end. Raises ValueError when its type and shape make another number of bytes."""
    shape, (begin, end) = tensor["shape"], tensor["data_offsets"]
    if tensor["dtype"] not in _BITS:
        raise ValueError(f"{key[:100]!r} is of type {str(tensor['dtype'])[:20]!r}, which is not known")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, begin, end)):
        raise ValueError(f"the sizes of {key[:100]!r} are no sizes")
    if math.prod(shape) * _BITS[tensor["dtype"]] != (end - begin) * 8:
        raise ValueError(f"{key[:100]!r} has {end - begin:,} bytes, its shape has other ones")
    return begin, end


def parameters_in(header: dict[str, Any]) -> int:
    """Weights that a header describes."""
    return sum(math.prod(each["shape"]) for key, each in header.items() if key != "__metadata__")
