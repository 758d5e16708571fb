"""The files that a path of data stands for: itself, those of a folder and its folders, those that a pattern names."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.readers import compressed

# Files that a library writes beside the rows to describe them; they hold none.
_ABOUT = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json"})
_PATTERN = "*?["


@dataclass(frozen=True, slots=True)
class Listing:
    """The files below a folder or of a pattern, in the order of their names, and those of a folder that hold no rows."""

    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def is_several(path: Path) -> bool:
    """Whether the path stands for files by a folder or a pattern. A file of that very name is meant itself."""
    return is_folder(path) or (is_pattern(str(path)) and not _is_there(path))


def is_pattern(path: str) -> bool:
    """Whether the path can stand for files by a pattern."""
    return any(character in path for character in _PATTERN)


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # behind a folder that this user may not look into
        return False


def _is_there(path: Path) -> bool:
    return "\0" in str(path) or os.path.lexists(path)


def files_of(path: Path, structured: tuple[str, ...], texts: tuple[str, ...]) -> Listing:
    """What is read for a folder or a pattern; hidden files and folders are passed over.

    Args:
        structured: endings of files with rows in them.
        texts: endings of plain text, which is read where a folder has nothing else: beside rows it describes them.
    """
    if not path.is_dir():
        return Listing(tuple(Path(found) for found in sorted(glob.glob(str(path), recursive=True)) if _is_file(Path(found))))
    below = sorted(_below(path))
    by_kind = {endings: [file for file in below if ends(file.name, endings)] for endings in (structured, texts)}
    chosen = by_kind[structured] or by_kind[texts]
    taken = set(chosen)
    return Listing(tuple(chosen), tuple(file for file in below if file not in taken))


def _below(folder: Path) -> list[Path]:
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".") and _is_file(Path(here, name))]
    return found


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def ends(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a file's name has one of the endings, packed or not, and is not that of a file about the rows."""
    name = name.rpartition("/")[2].lower()
    for packed in compressed.SUFFIXES:
        name = name.removesuffix(packed)
    return name.endswith(endings) and name not in _ABOUT


def sha256_of(files: Sequence[tuple[Path, str]], root: Path) -> str:
    """A digest of several files, each with the digest of its bytes: it changes when a name or a byte of any does."""
    digest = hashlib.sha256()
    for file, its_digest in files:
        digest.update(f"{os.path.relpath(file, root)}\0{its_digest}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
