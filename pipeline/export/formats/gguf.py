"""The merged model as one GGUF file, for llama.cpp and what is built on it, opened by llama.cpp before it is packaged."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipeline.common.files import fingerprint
from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.licences import copy_licences
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, differing, link, read_checksums
from pipeline.export.proof import llama_cpp
from pipeline.export.proof.proof import LIMITS, Proof
from pipeline.export.proof.prove_gguf import prove_gguf
from pipeline.planning.export_formats import EXPORT_FORMATS, gguf_bytes
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

# Raise it when the same adapter and base would make another file.
_VERSION = 1


def file_name(package: Package, kind: str) -> str:
    """Of the file in its folder: people move it out of there."""
    return f"{package.config.project}-{kind}.gguf"


def gguf_fingerprint(package: Package, kind: str) -> str:
    """Changes when the file would."""
    made_from = [package.trained.adapter_sha256(), package.base.weights_fingerprint(), tokenizer_fingerprint(package.base)]
    return fingerprint("gguf", _VERSION, kind, *made_from)


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
    made = Made(package.config.project, cards.licence_of(package.base))
    write_gguf(path, package.base, Adapter(package.trained.checkpoint), tokenizer, made, kind, watch)
    proof = prove_gguf(path, package, tokenizer, LIMITS[kind], name)
    return _with_card(into, package, name, proof)


def kind_of(name: ExportFormat) -> str:
    return name.removeprefix("gguf_")


def _with_card(into: Path, package: Package, name: ExportFormat, proof: Proof) -> Written:
    licences = copy_licences(package.base, into)
    kind = kind_of(name)
    cards.write_card(into / "README.md", cards.gguf_card(package, file_name(package, kind), kind, proof, licences))
    return Written({"fingerprint": gguf_fingerprint(package, kind), "proof": proof.to_json()})


def ready(name: ExportFormat, old: Path, manifest: dict[str, Any], package: Package) -> bool:
    """Whether the file in the package at `old` is the one that would be made, and as well proved as it can be here."""
    record, kind = manifest.get(name), kind_of(name)
    if not isinstance(record, dict) or record.get("fingerprint") != gguf_fingerprint(package, kind) or not is_current(record):
        return False
    inside = f"{EXPORT_FORMATS[name].folder}/{file_name(package, kind)}"
    return inside in read_checksums(old) and not differing(old, [inside]) and not (old / inside).is_symlink()


def is_current(record: dict[str, Any]) -> bool:
    """Whether there is nothing to prove that could not be proved before."""
    try:
        return Proof.from_json(record["proof"]).is_proved or not llama_cpp.is_there()
    except (KeyError, TypeError):
        return False


def take(name: ExportFormat, folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the file taken over from the package at `old`, where it is `ready`."""
    from pipeline.common.files import read_json

    into, file = folder / EXPORT_FORMATS[name].folder, file_name(package, kind_of(name))
    into.mkdir()
    link(old / into.name / file, into / file)
    inside = f"{into.name}/{file}"
    written = _with_card(into, package, name, Proof.from_json(read_json(old / MANIFEST)[name]["proof"]))
    return Written(written.record, {inside: read_checksums(old)[inside]})


def summary(name: ExportFormat, record: dict[str, Any]) -> str:
    return f"GGUF {kind_of(name)} ({Proof.from_json(record['proof']).sentence()})"


def warning(name: ExportFormat, record: dict[str, Any]) -> str:
    proof = Proof.from_json(record["proof"])
    return "" if proof.is_proved else f"{name} is written and {proof.sentence()}"


def _format(name: ExportFormat) -> Format:
    return Format(
        name=name,
        title=f"GGUF file ({kind_of(name)})",
        doing="writing the GGUF file",
        command=f"humigence export {name}",
        needs_bytes=lambda package: gguf_bytes(kind_of(name), package.base),
        write=partial(write, name),
        reuse=Reuse(partial(ready, name), partial(take, name)),
        summary=partial(summary, name),
        warning=partial(warning, name),
        is_current=is_current,
    )


GGUF_FORMATS: tuple[ExportFormat, ...] = (
    "gguf_f16", "gguf_bf16", "gguf_q8_0", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0",
)  # fmt: skip
FORMATS = tuple(_format(name) for name in GGUF_FORMATS)
