"""The merged model as one GGUF file, for llama.cpp and what is built on it, opened by llama.cpp before it is packaged."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.gguf import packaged
from pipeline.export.gguf.packaged import file_name, is_current, write_model
from pipeline.export.licences import copy_licences
from pipeline.export.package import Package
from pipeline.export.proof.proof import LIMITS, Proof, warning
from pipeline.export.proof.prove_gguf import prove_gguf
from pipeline.planning.export_formats import EXPORT_FORMATS, gguf_bytes


def write(name: ExportFormat, folder: Path, package: Package, watch: Watch) -> Written:
    """Fill the format's folder below `folder`: the file, its card, licences.

    Raises:
        BadInput: no file of this base is written, or a number does not fit.
        NotProved: llama.cpp reads another model in it.
        OutOfMemory: there is no room for a few rows of a weight.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    kind, into = kind_of(name), folder / EXPORT_FORMATS[name].folder
    into.mkdir()
    path, tokenizer = into / file_name(package, kind), ChatTokenizer.load(package.base)
    write_model(path, package, tokenizer, kind, watch)
    return _with_card(into, package, kind, prove_gguf(path, package, tokenizer, LIMITS[kind], name), {})


def kind_of(name: ExportFormat) -> str:
    return name.removeprefix("gguf_")


def _with_card(into: Path, package: Package, kind: str, proof: Proof, digests: dict[str, str]) -> Written:
    licences = copy_licences(package.base, into)
    cards.write_card(into / "README.md", cards.gguf_card(package, file_name(package, kind), kind, proof, licences))
    return Written(packaged.record_of(package, kind, proof), digests)


def take(name: ExportFormat, folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the file taken over from the package at `old`, where it is `ready`."""
    into = folder / EXPORT_FORMATS[name].folder
    into.mkdir()
    return _with_card(into, package, kind_of(name), *packaged.take_file(name, kind_of(name), into, package, old))


def summary(name: ExportFormat, record: dict[str, Any]) -> str:
    return f"GGUF {kind_of(name)} ({Proof.from_json(record['proof']).sentence()})"


def _format(name: ExportFormat) -> Format:
    return Format(
        name=name,
        title=f"GGUF file ({kind_of(name)})",
        doing="writing the GGUF file",
        command=f"humigence export {name}",
        needs_bytes=lambda package: gguf_bytes(kind_of(name), package.base),
        write=partial(write, name),
        reuse=Reuse(partial(packaged.ready, name, kind_of(name)), partial(take, name)),
        summary=partial(summary, name),
        warning=partial(warning, name),
        is_current=is_current,
    )


GGUF_FORMATS: tuple[ExportFormat, ...] = (
    "gguf_f16", "gguf_bf16", "gguf_q8_0", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0",
)  # fmt: skip
FORMATS = tuple(_format(name) for name in GGUF_FORMATS)
