"""Step 7: the best adapter with its tokenizer, cards and checksums in `artifacts/<project>/`, replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import room
from pipeline.context import StepContext, StepResult
from pipeline.events import Note, Packed
from pipeline.export import package as packages
from pipeline.export.folder import MANIFEST, carry_over, check_target, differing, read_checksums
from pipeline.files import new_folder, read_json
from pipeline.trained import ADAPTER_WEIGHTS

_BESIDE_WEIGHTS = 8 << 20  # tokenizer, cards, manifest


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the package that is there is the one that would be made, every byte of it."""
    folder = packages.folder_of(ctx)
    package = packages.find(ctx)
    if package is None or not read_checksums(folder) or differing(folder):
        return False
    return bool(read_json(folder / MANIFEST)["fingerprint"] == package.fingerprint)


def run(ctx: StepContext) -> StepResult:
    """Package the run's best adapter.

    Raises:
        MissingArtifact: not trained, not evaluated, or the base model is gone.
        BadInput: the target holds something that is no package.
    """
    folder = packages.folder_of(ctx)
    package = packages.require(ctx)
    check_target(folder)
    unchanged = is_unchanged(ctx)
    if not unchanged:
        _pack(ctx, folder, package)
    size = _size(folder)
    for name in ctx.config.export.formats:
        ctx.emit(Packed(_shown(ctx, folder), name, size))
    words = f"step {package.trained.report['best_step']}'s adapter in {_shown(ctx, folder)}, {size / 1e6:.1f} MB"
    return StepResult("unchanged" if unchanged else "done", words)


def _pack(ctx: StepContext, folder: Path, package: packages.Package) -> None:
    from pipeline import export

    room.require(folder, _bytes_of(package), "the package")
    with new_folder(folder) as new:
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)  # a temporary folder is private, a package is there to be used
        export.write(new, package)
        edited = carry_over(folder, new) if folder.exists() else []
    for name in edited:
        ctx.emit(Note(f"{_shown(ctx, folder)}: a file of the older package had been edited; it is kept as {name}", "warning"))


def _bytes_of(package: packages.Package) -> int:
    weights = package.trained.checkpoint / ADAPTER_WEIGHTS
    return weights.stat().st_size + _BESIDE_WEIGHTS


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in read_checksums(folder))


def _shown(ctx: StepContext, folder: Path) -> str:
    return str(folder.relative_to(ctx.workspace.root)) if folder.is_relative_to(ctx.workspace.root) else str(folder)
