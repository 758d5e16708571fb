"""Step 7: the best adapter with its tokenizer, cards and checksums in `artifacts/<project>/`, replaced as a whole.

The adapter is packaged first by itself, then each other format is added: whatever becomes of its gigabytes, the adapter is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.common.errors import Stopped
from pipeline.common.files import new_folder, read_json
from pipeline.common.text import size
from pipeline.config.schema import ExportFormat
from pipeline.export import package as packages
from pipeline.export.formats.format import Format
from pipeline.export.formats.registry import FORMATS
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST, carry_over, check_target, differing, read_checksums
from pipeline.export.proof.proof import NotProved
from pipeline.export.write import write_package
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note, Packed
from pipeline.runs.folders import ADAPTER_WEIGHTS
from pipeline.runs.progress import Progress
from pipeline.system import disk
from pipeline.system.out_of_memory import OutOfMemory

_BESIDE_WEIGHTS = 8 << 20  # tokenizer, cards, manifest


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the package that is there is the one that would be made, every byte of it. It may hold more than is asked for."""
    package = packages.find_package(ctx)
    return package is not None and _stands(packages.folder_of(ctx), package)


def _stands(folder: Path, package: Package) -> bool:
    if not read_checksums(folder) or differing(folder):
        return False
    manifest = _manifest(folder)
    same = manifest.get("fingerprint") == package.fingerprint and set(package.formats) <= set(manifest["formats"])
    return same and all(FORMATS[name].is_current(manifest.get(name) or {}) for name in package.formats)


def _manifest(folder: Path) -> dict[str, Any]:
    """`humigence.json`; empty where there is none that could be read."""
    try:
        document = read_json(folder / MANIFEST)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("formats"), list) else {}


def run(ctx: StepContext) -> StepResult:
    """Package the run's best adapter, and the other formats that are asked for or were made of the same adapter before.

    Raises:
        MissingArtifact: not trained, not evaluated, or the base model is gone.
        BadInput: the target holds something that is no package; adapter and base don't fit each other.
        EnvironmentFault: there is no room on the disk, or no memory.
        NotProved: a format is another model than base and adapter to the program it is for; everything else is packaged.
        Stopped: the person asked to while a format was written.
    """
    folder = packages.folder_of(ctx)
    package = packages.require_package(ctx)
    check_target(folder)
    unchanged = _stands(folder, package)
    if unchanged:
        _report(ctx, folder, _formats_in(_manifest(folder)))
    else:
        _pack(ctx, folder, package)
    return StepResult("unchanged" if unchanged else "done", _summary(ctx, folder, _manifest(folder)))


def _formats_in(manifest: dict[str, Any]) -> list[ExportFormat]:
    """Those of a package's formats that this version knows."""
    return [name for name in FORMATS if name in manifest["formats"]]


def _report(ctx: StepContext, folder: Path, formats: Collection[ExportFormat]) -> None:
    for name in formats:
        ctx.emit(Packed(_shown(ctx, folder / EXPORT_FORMATS[name].folder), name, _size(folder, name)))


def _pack(ctx: StepContext, folder: Path, package: Package) -> None:
    manifest = _manifest(folder)
    # Somebody may have asked for one of these by hand: it stays with its adapter.
    ready = [name for name, each in FORMATS.items() if each.reuse and each.reuse.ready(folder, manifest, package)]
    made = package.only("peft_adapter", *ready)
    if not _stands(folder, made):
        _write(ctx, folder, made)
    _report(ctx, folder, made.formats)
    failed: list[NotProved] = []
    for name in package.formats:
        if name not in made.formats:
            try:
                _write(ctx, folder, package.only(*made.formats, name), FORMATS[name])
            except NotProved as error:  # the others are made first
                failed.append(error)
                continue
            made = package.only(*made.formats, name)
            _report(ctx, folder, [name])
            if warning := FORMATS[name].warning(_manifest(folder)[name]):
                ctx.emit(Note(warning, "warning"))
    if len(failed) == 1:
        raise failed[0]
    if failed:
        reasons = "\n".join(error.message for error in failed)
        raise NotProved(f"{len(failed)} formats were made and are not packaged\n{reasons}", failed[0].hint)


def _write(ctx: StepContext, folder: Path, package: Package, added: Format | None = None) -> None:
    """Put the package in place of the one that stands, whose formats but the adapter are taken over; `added` is written."""
    title = added.title if added else "package"
    later = f"{added.command} goes on; the adapter is packaged already" if added else "start it again"
    size = added.needs_bytes(package) if added else 0
    disk.require_free(folder, size + _adapter_bytes(package), f"the {title}", f"make room, then {later}")
    doing = added.doing if added else "writing"
    progress = Progress(ctx, "pack", size, "bytes", doing, Stopped(f"stopped while {doing}", later))
    reused = [name for name in package.formats if not (added and name == added.name)]
    with new_folder(folder) as new:
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o777 & ~umask)  # a temporary folder is private, a package is there to be used
        try:
            write_package(new, package, progress.advance, folder, reused)
        except OutOfMemory as error:
            error.hint = f"free memory on this machine, then {later}"
            raise
        edited = carry_over(folder, new) if folder.exists() else []
    for name in edited:
        why = "a file that was edited or added has the name of one of the package's"
        ctx.emit(Note(f"{_shown(ctx, folder)}: {why}; it is saved as {name}", "warning"))


def _summary(ctx: StepContext, folder: Path, manifest: dict[str, Any]) -> str:
    parts = [f"step {manifest['step']}'s adapter in {_shown(ctx, folder)}, {size(_size(folder, 'peft_adapter'))}"]
    for name in _formats_in(manifest):
        if name != "peft_adapter":
            where = _shown(ctx, folder / EXPORT_FORMATS[name].folder)
            parts.append(f"{FORMATS[name].summary(manifest[name])} in {where}, {size(_size(folder, name))}")
    return "; ".join(parts)


def _adapter_bytes(package: Package) -> int:
    return (package.trained.checkpoint / ADAPTER_WEIGHTS).stat().st_size + _BESIDE_WEIGHTS


def _size(folder: Path, format_name: ExportFormat) -> int:
    """Bytes of what is packed in a format: what lies in its folder, or all that lies in no format's."""
    own = EXPORT_FORMATS[format_name].folder
    folders = {outline.folder for outline in EXPORT_FORMATS.values()} - {""}
    names = [name for name in read_checksums(folder) if _folder_of(name, folders) == own]
    return sum((folder / name).stat().st_size for name in names)


def _folder_of(name: str, folders: Collection[str]) -> str:
    first, slash, _ = name.partition("/")
    return first if slash and first in folders else ""


def _shown(ctx: StepContext, folder: Path) -> str:
    return str(folder.relative_to(ctx.workspace.root)) if folder.is_relative_to(ctx.workspace.root) else str(folder)
