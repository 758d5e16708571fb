"""A package as a folder: its formats, and what every package has besides: tokenizer, stop tokens, cards, manifest, checksums."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import BaseModel
from pipeline.common.files import read_json, write_json
from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.formats.format import Watch
from pipeline.export.formats.registry import FORMATS
from pipeline.export.generation_config import write_generation_config
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, write_checksums
from pipeline.export.tokenizer_files import write_tokenizer


def write_package(folder: Path, package: Package, watch: Watch, old: Path, reused: Collection[ExportFormat]) -> None:
    """Fill an empty `folder` with the package's formats and what belongs to all of them.

    Args:
        watch: called with bytes as a format is written; may raise to end the work.
        old: the package that stands, or none yet.
        reused: formats that are ready in it: they are taken over, where they can be.

    Raises:
        BadInput: adapter and base model don't fit each other.
        OutOfMemory: memory ran out while weights were merged.
    """
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    manifest, digests = package.manifest(), dict[str, str]()
    for name in package.formats:
        each = FORMATS[name]
        made = each.reuse.take(folder, package, old) if each.reuse and name in reused else each.write(folder, package, watch)
        digests |= made.digests
        manifest |= {name: made.record} if made.record else {}
    tokenizer = ChatTokenizer.load(package.base)
    write_tokenizer(folder, package.base, tokenizer)
    write_generation_config(folder, package.base, _config_of(package.base), tokenizer.stop_ids)
    for card in ("model_card.md", "README.md"):  # the hub shows the second
        cards.write_card(folder / card, cards.model_card(package, manifest))
    if package.data is not None:
        cards.write_card(folder / "dataset_card.md", cards.dataset_card(package, package.data))
    write_json(folder / MANIFEST, manifest)
    write_checksums(folder, digests)


def _config_of(base: BaseModel) -> dict[str, Any]:
    """`config.json` of a base model; a GGUF file has none."""
    found: dict[str, Any] = read_json(base.path / "config.json") if base.kind == "folder" else {}
    return found
