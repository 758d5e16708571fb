"""The adapter alone as a GGUF file, for llama.cpp's `--lora` beside a GGUF file of the base model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.gguf import packaged
from pipeline.export.gguf.lora import write_lora
from pipeline.export.gguf.packaged import file_name, is_current
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.licences import copy_licences
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.package import Package
from pipeline.export.proof import llama_cpp
from pipeline.export.proof.proof import LIMITS, Proof, warning
from pipeline.export.proof.prove_gguf import prove_gguf
from pipeline.planning.export_formats import EXPORT_FORMATS, gguf_bytes
from pipeline.runs.folders import ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_KIND = "lora"
_BASE_KIND = "q8_0"  # of the base's file that is written to prove the adapter, and goes again
_FOLDER = EXPORT_FORMATS["gguf_lora"].folder


def write(folder: Path, package: Package, watch: Watch) -> Written:
    """Fill the format's folder below `folder`: the adapter's file, its card, licences.

    Raises:
        BadInput: no file of this base or adapter is written.
        NotProved: base and adapter are another model to llama.cpp.
        OutOfMemory: there is no room for a few rows of a weight.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    into, tokenizer = folder / _FOLDER, ChatTokenizer.load(package.base)
    into.mkdir()
    path = into / file_name(package, _KIND)
    write_lora(path, package.base, Adapter(package.trained.checkpoint), package.config.project, watch)
    return _with_card(into, package, _proved(path, package, tokenizer, watch), {})


def take(folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the file taken over from the package at `old`, where it is `ready`."""
    into = folder / _FOLDER
    into.mkdir()
    return _with_card(into, package, *packaged.take_file("gguf_lora", _KIND, into, package, old))


def _proved(path: Path, package: Package, tokenizer: ChatTokenizer, watch: Watch) -> Proof:
    """Beside the base's own file, or one that is written for it."""
    base = package.base
    if base.kind == "gguf" or not llama_cpp.is_there():
        return prove_gguf(base.path, package, tokenizer, LIMITS[_BASE_KIND], "gguf_lora", lora=path)
    beside = path.with_name("base.gguf")
    try:
        write_gguf(beside, base, None, tokenizer, Made(base.name, cards.licence_of(base)), _BASE_KIND, watch)
        return prove_gguf(beside, package, tokenizer, LIMITS[_BASE_KIND], "gguf_lora", lora=path)
    finally:
        beside.unlink(missing_ok=True)


def _with_card(into: Path, package: Package, proof: Proof, digests: dict[str, str]) -> Written:
    own = package.base.kind == "gguf"
    beside = "the base model's own file" if own else f"a file of the base model that was made for this ({_BASE_KIND})"
    licences = copy_licences(package.base, into)
    cards.write_card(into / "README.md", cards.lora_card(package, file_name(package, _KIND), beside, proof, licences))
    return Written(packaged.record_of(package, _KIND, proof), digests)


def _needs_bytes(package: Package) -> int:
    adapter = 2 * (package.trained.checkpoint / ADAPTER_WEIGHTS).stat().st_size
    return adapter + (gguf_bytes(_BASE_KIND, package.base) if package.base.kind == "folder" else 0)


def summary(record: dict[str, Any]) -> str:
    return f"adapter for llama.cpp ({Proof.from_json(record['proof']).sentence()})"


FORMATS = (
    Format(
        name="gguf_lora",
        title="adapter as a GGUF file",
        doing="writing the adapter as a GGUF file",
        command="humigence export gguf_lora",
        needs_bytes=_needs_bytes,
        write=write,
        reuse=Reuse(partial(packaged.ready, "gguf_lora", _KIND), take),
        summary=summary,
        warning=partial(warning, "gguf_lora"),
        is_current=is_current,
    ),
)
