"""A GGUF file as a part of a package: its name, when it is taken over from an older one, what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.files import fingerprint, read_json
from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, differing, link, read_checksums
from pipeline.export.proof import llama_cpp
from pipeline.export.proof.proof import Proof, is_settled
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

if TYPE_CHECKING:
    from pipeline.export.formats.format import Watch
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

# Raise it when the same adapter and base would make another file.
_VERSION = 2


def file_name(package: Package, kind: str) -> str:
    """Of the file in its folder: people move it out of there."""
    return f"{package.config.project}-{kind}.gguf"


def gguf_fingerprint(package: Package, kind: str) -> str:
    """Changes when the file would."""
    made_from = [package.trained.adapter_sha256(), package.base.weights_fingerprint(), tokenizer_fingerprint(package.base)]
    return fingerprint("gguf", _VERSION, kind, *made_from)


def write_model(path: Path, package: Package, tokenizer: ChatTokenizer, kind: str, watch: Watch) -> None:
    """Write base and adapter as one file. Raises as `write_gguf` does."""
    made = Made(package.config.project, cards.licence_of(package.base))
    write_gguf(path, package.base, Adapter(package.trained.checkpoint), tokenizer, made, kind, watch)


def ready(name: ExportFormat, kind: str, old: Path, manifest: dict[str, Any], package: Package) -> bool:
    """Whether the file in the package at `old` is the one that would be made, and as well proved as it can be here."""
    record = manifest.get(name)
    if not isinstance(record, dict) or record.get("fingerprint") != gguf_fingerprint(package, kind) or not is_current(record):
        return False
    inside = f"{EXPORT_FORMATS[name].folder}/{file_name(package, kind)}"
    return inside in read_checksums(old) and not differing(old, [inside]) and not (old / inside).is_symlink()


def is_current(record: dict[str, Any]) -> bool:
    """Whether there is nothing to prove that could not be proved before."""
    return is_settled(record, llama_cpp.is_there())


def take_file(name: ExportFormat, kind: str, into: Path, package: Package, old: Path) -> tuple[Proof, dict[str, str]]:
    """Take the file over from the package at `old`, where it is `ready`: what was proved of it, and its digest."""
    file = file_name(package, kind)
    link(old / into.name / file, into / file)
    inside = f"{into.name}/{file}"
    return Proof.from_json(read_json(old / MANIFEST)[name]["proof"]), {inside: read_checksums(old)[inside]}


def record_of(package: Package, kind: str, proof: Proof) -> dict[str, Any]:
    """What `humigence.json` says of it."""
    return {"fingerprint": gguf_fingerprint(package, kind), "proof": proof.to_json()}
