"""The folder of a package: what in it is ours, what a person put there, and its checksums.

`artifacts/<project>/` is replaced as a whole. Files that are not ours are carried over, files of ours that somebody edited are
saved as `.bak`, and a folder that no pack has made is refused: a wrong `export.artifacts_dir` must not cost anybody's work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.common.files import sha256_file

MANIFEST = "humigence.json"
CHECKSUMS = "checksums.sha256"


def check_target(folder: Path) -> None:
    """Raise `BadInput` when `folder` holds something else than a package."""
    hint = "move it away, or choose another export.artifacts_dir or project"
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file, and the package goes into a folder of that name", hint)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise BadInput(f"{folder} is not empty and is no package of Humigence's ({MANIFEST} is missing)", hint)


def write_checksums(folder: Path, known: Mapping[str, str]) -> None:
    """Write `checksums.sha256` over every file in `folder`; `sha256sum -c checksums.sha256` verifies it there.

    Args:
        known: sums by name of files that were summed as they were written.
    """
    names = sorted(str(path.relative_to(folder)) for path in _files(folder))
    lines = [f"{known.get(name) or sha256_file(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def read_checksums(folder: Path) -> dict[str, str]:
    """name -> sha256 of the files a pack has written; empty where the list is missing."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, separator, name in pairs if separator}


def differing(folder: Path, names: Collection[str] | None = None) -> list[str]:
    """Names of files, of all or of `names`, that are missing or are not as they were packed.

    Reads every byte of them. Empty, too, where the list of checksums is missing.
    """
    listed = read_checksums(folder).items()
    asked = [(name, digest) for name, digest in listed if names is None or name in names]
    return [name for name, digest in asked if not (folder / name).is_file() or sha256_file(folder / name) != digest]


def carry_over(old: Path, new: Path) -> list[str]:
    """Take what is not ours from the package at `old` into the one at `new`, after that is written and summed.

    Returns:
        Names, as they are in `new`, of files that are edited ones of ours, or had the name of one.
    """
    ours = read_checksums(old)
    edited = []
    for path in _entries(old):
        name = str(path.relative_to(old))
        if name == CHECKSUMS or _is_same(path, new / name):
            continue
        if name in ours and not path.is_symlink() and sha256_file(path) == ours[name]:
            continue
        if (new / name).is_file() and path.is_file() and sha256_file(path) == sha256_file(new / name):
            continue
        target = _free_name(new / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        link(path, target)
        if name in ours or target != new / name:
            edited.append(str(target.relative_to(new)))
    return edited


def _free_name(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}.bak{number or ''}") for number in range(10_000))
    return path if not os.path.lexists(path) else next(each for each in candidates if not os.path.lexists(each))


def _is_same(old: Path, new: Path) -> bool:
    """Whether a file has been taken over by a second name: a model of many gigabytes is not read again to see that."""
    return not old.is_symlink() and new.exists() and os.path.samefile(old, new)


def link(source: Path, target: Path) -> None:
    """A second name for the same bytes, which may be many gigabytes; a copy where the file system has none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _entries(folder: Path) -> Iterator[Path]:
    """Every file and every link below `folder`, links not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in sorted([*files, *links]))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if path.is_file() and path.name != CHECKSUMS)
