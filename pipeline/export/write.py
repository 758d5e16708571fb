"""Formats a trained model is packaged in.

The adapter is in every package; the merged model lies in a folder of its own below it. What every package has besides (tokenizer,
cards, manifest, checksums) is `write`'s.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.common.files import write_json
from pipeline.common.redact import redact
from pipeline.export import cards
from pipeline.export.formats.merged import licence_files, write_merged_model
from pipeline.export.formats.peft_adapter import write_peft_adapter
from pipeline.export.merge.safetensors import Watch
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, write_checksums
from pipeline.runs.folders import MERGED


def write(folder: Path, package: Package, watch: Watch = lambda _: None, old: Path | None = None) -> None:
    """Fill an empty `folder` with the package's formats and what belongs to all of them.

    Args:
        watch: called with bytes as a merged model grows; may raise to end the work.
        old: a package whose merged weights are taken over.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    write_peft_adapter(folder, package)
    ChatTokenizer.load(package.base).save(folder)
    _write_card(folder / "model_card.md", cards.model_card(package))
    if package.data is not None:
        _write_card(folder / "dataset_card.md", cards.dataset_card(package, package.data))
    manifest, known = package.manifest(), dict[str, str]()
    if "merged" in package.formats:
        merged, known = write_merged_model(folder, package, watch, old)
        licences = [path.name for path in licence_files(package.base)]
        _write_card(folder / MERGED / "README.md", cards.merged_card(package, merged.dtype, merged.kept, licences))
        manifest["merged"] = merged.to_json()
    write_json(folder / MANIFEST, manifest)
    write_checksums(folder, known)


def _write_card(path: Path, text: str) -> None:
    path.write_text(redact(text), encoding="utf-8")
