"""An eight-bit model as a part of a package: written, proved, taken over, spoken of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.files import fingerprint, read_json
from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.int8.scheme import Scheme
from pipeline.export.int8.sources import opened
from pipeline.export.int8.write import write_weights
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.model_folder import CONFIG, are_whole, take_weights, write_beside_weights
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST
from pipeline.export.proof.proof import EIGHT_BITS, Proof, is_settled, warning
from pipeline.export.proof.prove_folder import prove_folder
from pipeline.planning.export_formats import EXPORT_FORMATS, eight_bit_bytes, merged_weight_bytes
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

# Raise it when the same adapter and base would make other files.
_VERSION = 1


@dataclass(frozen=True)
class Kind:
    """One of the formats.

    Attributes:
        title: what a person calls it.
        library: the distribution that opens it, beside transformers.
        module: its name in Python.
        extra: of Humigence's, that installs it; empty where it is always there.
        opens_dense: transformers holds it in 16 bits once it is loaded.
        use: the card's section on how it is asked something.
        note: a sentence of the card after the proof.
    """

    name: ExportFormat
    title: str
    scheme: Scheme
    library: str
    module: str
    use: str
    extra: str = ""
    opens_dense: bool = False
    note: str = ""

    @property
    def folder(self) -> str:
        return EXPORT_FORMATS[self.name].folder

    @property
    def is_there(self) -> bool:
        return find_spec(self.module) is not None


def _fingerprint(package: Package, kind: Kind) -> str:
    made_from = [package.trained.adapter_sha256(), package.base.weights_fingerprint(), tokenizer_fingerprint(package.base)]
    return fingerprint(kind.name, _VERSION, *made_from)


def write(kind: Kind, folder: Path, package: Package, watch: Watch) -> Written:
    """Fill the format's folder below `folder`.

    Raises:
        BadInput: no such file is written of this base, or a number does not fit.
        NotProved: transformers reads another model in it.
        OutOfMemory: there is no room for a few rows of a weight, or for a GGUF base's weights.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    into, tokenizer = folder / kind.folder, ChatTokenizer.load(package.base)
    into.mkdir()
    with opened(package.base, Adapter(package.trained.checkpoint)) as source:
        write_weights(into, source, kind.scheme, watch)
        held = {"F16": "float16", "BF16": "bfloat16"}[source.dtype]
        config = source.config | {
            "quantization_config": dict(kind.scheme.config(source.kept)), "dtype": held, "torch_dtype": held,
        }  # fmt: skip
    licences = write_beside_weights(into, package.base, tokenizer, config)
    return _with_card(into, kind, package, _proved(into, kind, package, tokenizer), licences, {})


def _proved(into: Path, kind: Kind, package: Package, tokenizer: ChatTokenizer) -> Proof:
    if not kind.is_there:
        return Proof(reason=f"{kind.library} is not installed here; pip install 'humigence[{kind.extra}]', then export it again")
    whole = merged_weight_bytes(package.base, in_16_bits=True)
    weights = whole if kind.opens_dense else eight_bit_bytes(package.base)
    return prove_folder(into, package, tokenizer, EIGHT_BITS, kind.name, ("transformers", kind.library), weights)


def _with_card(
    into: Path, kind: Kind, package: Package, proof: Proof, licences: Sequence[str], digests: dict[str, str]
) -> Written:
    card = cards.eight_bit_card(package, kind.library, proof, kind.note, kind.use, licences)
    cards.write_card(into / "README.md", card)
    return Written({"fingerprint": _fingerprint(package, kind), "proof": proof.to_json()}, digests)


def ready(kind: Kind, old: Path, manifest: dict[str, Any], package: Package) -> bool:
    """Whether the weights in the package at `old` are those that would be made, every byte, and as well proved as can be here."""
    record = manifest.get(kind.name)
    if not isinstance(record, dict) or record.get("fingerprint") != _fingerprint(package, kind) or not is_current(kind, record):
        return False
    return are_whole(old, kind.folder)


def is_current(kind: Kind, record: dict[str, Any]) -> bool:
    """Whether there is nothing to prove that could not be proved before."""
    return is_settled(record, kind.is_there)


def take(kind: Kind, folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the weights taken over from the package at `old`, where they are `ready`."""
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    digests = take_weights(old, folder, kind.folder)
    config = read_json(old / kind.folder / CONFIG)
    licences = write_beside_weights(folder / kind.folder, package.base, ChatTokenizer.load(package.base), config)
    proof = Proof.from_json(read_json(old / MANIFEST)[kind.name]["proof"])
    return _with_card(folder / kind.folder, kind, package, proof, licences, digests)


def format_of(kind: Kind) -> Format:
    return Format(
        name=kind.name,
        title=kind.title,
        doing=f"writing the {kind.title}",
        command=f"humigence export {kind.name}",
        needs_bytes=lambda package: eight_bit_bytes(package.base),
        write=partial(write, kind),
        reuse=Reuse(partial(ready, kind), partial(take, kind)),
        summary=lambda record: f"{kind.title} ({Proof.from_json(record['proof']).sentence()})",
        warning=partial(warning, kind.name),
        is_current=partial(is_current, kind),
    )
