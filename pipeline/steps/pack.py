"""Step 7: the best adapter with its tokenizer, cards and checksums in `artifacts/<project>/`, replaced as a whole.

With the merged model the adapter is packaged first by itself: whatever becomes of the gigabytes after it, it is there.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from pipeline.common.errors import Stopped
from pipeline.common.files import new_folder, read_json
from pipeline.export import package as packages
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, carry_over, check_target, differing, read_checksums
from pipeline.planning.package_size import merged_weight_bytes
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note, Packed, StepProgress
from pipeline.runs.folders import ADAPTER_WEIGHTS, MERGED
from pipeline.system import disk

_BESIDE_WEIGHTS = 8 << 20  # tokenizer, cards, manifest
_MAKE_ROOM = "make room, then start it again"
_MERGE_LATER = "humigence merge goes on; the adapter is packaged already"
_EVERY_S = 0.5
# Below it the person is told: half of what was taught is lost to rounding.
_LEAST_KEPT = 0.5


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the package that is there is the one that would be made, every byte of it. It may hold more than is asked for."""
    package = packages.find(ctx)
    return package is not None and _stands(packages.folder_of(ctx), package)


def _stands(folder: Path, package: Package) -> bool:
    if not read_checksums(folder) or differing(folder):
        return False
    manifest = _manifest(folder)
    return manifest.get("fingerprint") == package.fingerprint and set(package.formats) <= set(manifest["formats"])


def _manifest(folder: Path) -> dict[str, Any]:
    """`humigence.json`; empty where there is none that could be read."""
    try:
        document = read_json(folder / MANIFEST)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("formats"), list) else {}


def run(ctx: StepContext) -> StepResult:
    """Package the run's best adapter, and the merged model where it is asked for or was made of the same adapter before.

    Raises:
        MissingArtifact: not trained, not evaluated, or the base model is gone.
        BadInput: the target holds something that is no package; adapter and base don't fit each other.
        EnvironmentFault: there is no room on the disk, or no memory.
        Stopped: the person asked to while weights were merged.
    """
    folder = packages.folder_of(ctx)
    package = packages.require(ctx)
    check_target(folder)
    unchanged = _stands(folder, package)
    if unchanged:
        _tell(ctx, folder, *_manifest(folder)["formats"])
    else:
        _pack(ctx, folder, package)
    return StepResult("unchanged" if unchanged else "done", _summary(ctx, folder, _manifest(folder)))


def _tell(ctx: StepContext, folder: Path, *formats: str) -> None:
    for name in formats:
        within = folder / MERGED if name == "merged" else folder
        ctx.emit(Packed(_shown(ctx, within), name, _size(folder, merged=name == "merged")))


def _pack(ctx: StepContext, folder: Path, package: Package) -> None:
    from pipeline.export.formats import merged as merged_model

    merged = merged_model.ready(folder, _manifest(folder), package)
    if merged is not None:  # somebody may have asked for it by hand: it stays with its adapter
        _write(ctx, folder, package.only("peft_adapter", "merged"), _adapter_bytes(package), old=folder)
        _tell(ctx, folder, "peft_adapter", "merged")
        return
    adapter = package.only("peft_adapter")
    if not _stands(folder, adapter):
        _write(ctx, folder, adapter, _adapter_bytes(package))
    _tell(ctx, folder, "peft_adapter")
    if "merged" in package.formats:
        _write(ctx, folder, package, merged_weight_bytes(package.base) + _adapter_bytes(package))
        _tell(ctx, folder, "merged")
        _tell_what_was_lost(ctx, _manifest(folder)["merged"])


def _write(ctx: StepContext, folder: Path, package: Package, needed: int, old: Path | None = None) -> None:
    from pipeline.export.write import write

    merging = "merged" in package.formats and old is None
    hint = f"make room, then {_MERGE_LATER}" if merging else _MAKE_ROOM
    disk.require(folder, needed, "the merged model" if merging else "the package", hint)
    watch = _Progress(ctx, merged_weight_bytes(package.base) if merging else 0)
    with new_folder(folder) as new:
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)  # a temporary folder is private, a package is there to be used
        write(new, package, watch.advance, old)
        edited = carry_over(folder, new) if folder.exists() else []
    for name in edited:
        ctx.emit(Note(f"{_shown(ctx, folder)}: a file of the older package had been edited; it is kept as {name}", "warning"))


class _Progress:
    """Merged bytes as `StepProgress` events, at most two a second."""

    def __init__(self, ctx: StepContext, total: int) -> None:
        self._ctx, self._total = ctx, total
        self._done, self._told = 0, 0.0

    def advance(self, by: int) -> None:
        """Raises `Stopped` when the person asked to."""
        self._done += by
        if time.monotonic() - self._told < _EVERY_S:
            return
        self._told = time.monotonic()
        if self._ctx.stop():
            raise Stopped("stopped while merging", _MERGE_LATER)
        self._ctx.emit(StepProgress("pack", min(self._done, self._total), self._total, "bytes", "merging"))


def _tell_what_was_lost(ctx: StepContext, merged: dict[str, Any]) -> None:
    if merged["kept"] < _LEAST_KEPT:
        what = f"rounding to {merged['dtype']} leaves {100 * merged['kept']:.0f} % of what the adapter adds to the weights"
        ctx.emit(Note(f"{what}: the merged model may answer like the base; the adapter by itself loses nothing", "warning"))


def _summary(ctx: StepContext, folder: Path, manifest: dict[str, Any]) -> str:
    words = f"step {manifest['step']}'s adapter in {_shown(ctx, folder)}, {_size(folder, merged=False) / 1e6:.1f} MB"
    if "merged" not in manifest["formats"]:
        return words
    dtype, size = manifest["merged"]["dtype"], _size(folder, merged=True)
    return f"{words}; merged model ({dtype}) in {_shown(ctx, folder / MERGED)}, {size / 1e6:.1f} MB"


def _adapter_bytes(package: Package) -> int:
    return (package.trained.checkpoint / ADAPTER_WEIGHTS).stat().st_size + _BESIDE_WEIGHTS


def _size(folder: Path, *, merged: bool) -> int:
    """Bytes of what is packed: of the merged model, or of all the rest."""
    names = [name for name in read_checksums(folder) if name.startswith(f"{MERGED}/") == merged]
    return sum((folder / name).stat().st_size for name in names)


def _shown(ctx: StepContext, folder: Path) -> str:
    return str(folder.relative_to(ctx.workspace.root)) if folder.is_relative_to(ctx.workspace.root) else str(folder)
