"""Formats a trained model is packaged in.

A format is a function that writes its files into a folder. What every package has besides (tokenizer, cards, manifest, checksums)
is `write`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.config import ExportFormat
from pipeline.export import cards
from pipeline.export.folder import MANIFEST, write_checksums
from pipeline.export.package import Package
from pipeline.export.peft_adapter import write_peft_adapter
from pipeline.files import write_json
from pipeline.redact import redact

FORMATS: dict[ExportFormat, Callable[[Path, Package], None]] = {"peft_adapter": write_peft_adapter}


def write(folder: Path, package: Package) -> None:
    """Fill an empty `folder` with every format of the config and what belongs to all of them."""
    from pipeline.base_model.tokenizer import ChatTokenizer

    for name in package.config.export.formats:
        FORMATS[name](folder, package)
    ChatTokenizer.load(package.base).save(folder)
    (folder / "model_card.md").write_text(redact(cards.model_card(package)), encoding="utf-8")
    if package.data is not None:
        (folder / "dataset_card.md").write_text(redact(cards.dataset_card(package, package.data)), encoding="utf-8")
    write_json(folder / MANIFEST, package.manifest())
    write_checksums(folder)
