"""A GGUF file with a `Modelfile`: what `ollama create` takes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.gguf import packaged
from pipeline.export.gguf.packaged import file_name, is_current, write_model
from pipeline.export.licences import copy_licences
from pipeline.export.ollama.modelfile import modelfile, spoken
from pipeline.export.package import Package
from pipeline.export.package_folder import link
from pipeline.export.proof.proof import LIMITS, Proof, warning
from pipeline.export.proof.prove_gguf import prove_gguf
from pipeline.planning.export_formats import EXPORT_FORMATS, OLLAMA_KIND, gguf_bytes

if TYPE_CHECKING:
    from pipeline.export.ollama.modelfile import Spoken
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_FOLDER = EXPORT_FORMATS["ollama"].folder


def write(folder: Path, package: Package, watch: Watch) -> Written:
    """Fill the format's folder below `folder`: the file, the Modelfile, its card, licences.

    Raises:
        BadInput: no file of this base is written, or its chat template can't be said in Ollama's language.
        NotProved: llama.cpp reads another model in it, or another prompt.
        OutOfMemory: there is no room for a few rows of a weight.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    tokenizer, into = ChatTokenizer.load(package.base), folder / _FOLDER
    how = spoken(tokenizer)  # before gigabytes are written
    into.mkdir()
    path = into / file_name(package, OLLAMA_KIND)
    beside = folder / EXPORT_FORMATS["gguf_q8_0"].folder / path.name
    if beside.is_file():
        link(beside, path)  # packaged already: the same file under a second name
    else:
        write_model(path, package, tokenizer, OLLAMA_KIND, watch)
    proof = prove_gguf(path, package, tokenizer, LIMITS[OLLAMA_KIND], "ollama", spoken=how)
    return _with_modelfile(into, package, tokenizer, how, proof, {})


def take(folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the GGUF file taken over from the package at `old`, where it is `ready`."""
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    tokenizer, into = ChatTokenizer.load(package.base), folder / _FOLDER
    into.mkdir()
    proof, digests = packaged.take_file("ollama", OLLAMA_KIND, into, package, old)
    return _with_modelfile(into, package, tokenizer, spoken(tokenizer), proof, digests)


def _with_modelfile(
    into: Path, package: Package, tokenizer: ChatTokenizer, how: Spoken, proof: Proof, digests: dict[str, str]
) -> Written:
    licences = copy_licences(package.base, into)
    file = file_name(package, OLLAMA_KIND)
    stops = [tokenizer.decode([number], keep_special=True) for number in sorted(tokenizer.stop_ids)]
    text = modelfile(file, how, stops, package.config.eval.temperature)
    (into / "Modelfile").write_text(text, encoding="utf-8")
    cards.write_card(into / "README.md", cards.ollama_card(package, OLLAMA_KIND, proof, licences, dated=how.dated))
    return Written(packaged.record_of(package, OLLAMA_KIND, proof), digests)


def summary(record: dict[str, Any]) -> str:
    return f"Ollama's Modelfile and GGUF {OLLAMA_KIND} ({Proof.from_json(record['proof']).sentence()})"


FORMATS = (
    Format(
        name="ollama",
        title="model for Ollama",
        doing="writing the model for Ollama",
        command="humigence export ollama",
        needs_bytes=lambda package: gguf_bytes(OLLAMA_KIND, package.base),
        write=write,
        reuse=Reuse(partial(packaged.ready, "ollama", OLLAMA_KIND), take),
        summary=summary,
        warning=partial(warning, "ollama"),
        is_current=is_current,
    ),
)
