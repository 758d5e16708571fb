"""Checkpoint folders: whole or not there, found again, and cleared away. No torch: what is in them is `checkpoints`' matter.

`checkpoints/step-000040/` holds `manifest.json` with the size and SHA-256 of every other file. A folder appears by a rename after
everything in it is on disk; the manifest finds what a disk did to it later.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.files import new_folder, read_json, sha256_file, write_json

MANIFEST = "manifest.json"
KEPT_NEWEST = 2
_NAME = re.compile(r"step-(\d{6,})")


def folder_name(step: int) -> str:
    """`step-000040`: ordered by name as by number, up to a million steps."""
    return f"step-{step:06d}"


def step_of(folder: Path) -> int:
    """The optimizer step a checkpoint was saved after."""
    found = _NAME.fullmatch(folder.name)
    if found is None:
        raise ValueError(f"{folder} is not a checkpoint folder")
    return int(found[1])


def all_of(checkpoints: Path) -> list[Path]:
    """Every checkpoint folder, the oldest first, whole or not."""
    if not checkpoints.is_dir():
        return []
    return sorted((path for path in checkpoints.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()), key=step_of)


@contextmanager
def new_checkpoint(checkpoints: Path, step: int) -> Iterator[Path]:
    """A folder to fill; it appears under its name, with its manifest, when the block ends. When that raises, nothing does.

    Args:
        checkpoints: the run's folder of checkpoints.
        step: optimizer steps that were done.
    """
    with new_folder(checkpoints / folder_name(step)) as folder:
        yield folder
        files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())}
        write_json(folder / MANIFEST, {"step": step, "files": files})


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is as it was written."""
    try:
        manifest = read_json(folder / MANIFEST)
        files = manifest["files"].items()
        for name, wanted in files:
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != wanted["bytes"]:
                return f"{name} has {path.stat().st_size} of {wanted['bytes']} bytes"
            if sha256_file(path) != wanted["sha256"]:
                return f"{name} is not what was written"
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read ({type(error).__name__})"
    return None


def newest_whole(checkpoints: Path, passed_over: Callable[[Path, str], None]) -> Path | None:
    """The newest checkpoint that is whole; each damaged one on the way is passed to `passed_over` with what is wrong.

    Reads every byte of each one it looks at, for its sha256.
    """
    for folder in reversed(all_of(checkpoints)):
        reason = damage(folder)
        if reason is None:
            return folder
        passed_over(folder, reason)
    return None


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that it counts for nothing and is still there for whoever wants to look at it."""
    aside = folder.with_name(f"damaged-{folder.name}")
    if aside.exists():
        shutil.rmtree(aside)
    os.replace(folder, aside)
    return aside


def rotate(checkpoints: Path, newest: int, keep: Collection[int]) -> None:
    """Delete all but the two newest up to step `newest` and those in `keep`, and what killed saves left behind.

    Args:
        newest: optimizer step of the course that goes on; later ones are of a course that a resume has left.
        keep: steps whose checkpoints stay however old they are: the best one.
    """
    steps = [step_of(path) for path in all_of(checkpoints)]
    retained = {*keep, *sorted(step for step in steps if step <= newest)[-KEPT_NEWEST:]}
    for path in all_of(checkpoints):
        if step_of(path) not in retained or step_of(path) > newest:
            _discard(path)
    clear_unfinished(checkpoints)


def clear_all(checkpoints: Path) -> None:
    """Delete every checkpoint: training begins again."""
    for path in all_of(checkpoints):
        _discard(path)
    clear_unfinished(checkpoints)


def _discard(path: Path) -> None:
    # It loses its name first: a death in the middle must not leave half a checkpoint under a good name.
    gone = path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(path, gone)
    shutil.rmtree(gone)


def clear_unfinished(checkpoints: Path) -> None:
    """Delete the temporary folders of saves that did not end. Only whoever holds the run's lock may."""
    for path in checkpoints.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)
