"""What is kept for the next start and could be made again: one folder of the user's, and copies there under a seal.

A copy is a folder that appears under its name whole (`files.new_folder`). Its seal holds a digest of what was written, so that
one that is damaged counts as none, and is touched at each use, so that those of the longest ago can go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.common.files import read_json, remove_folder

SEAL = "copy.json"


def cache_folder(kind: str) -> Path:
    """Where what is of one kind is kept, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humigence" / kind


def is_whole(copy: Path, digest: Callable[[Path], object]) -> bool:
    """Whether a copy is there with the bytes that were written; a damaged one is removed.

    Args:
        digest: of a copy's folder, as its seal has it under `sha256`.
    """
    try:
        if digest(copy) == read_json(copy / SEAL)["sha256"]:
            with suppress(OSError):
                os.utime(copy / SEAL)  # when it was last used
            return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError):
        pass
    forget(copy)
    return False


def forget(copy: Path) -> None:
    """Remove a copy."""
    with suppress(OSError):
        remove_folder(copy)


def last_used_first(copies: Path) -> list[Path]:
    """The copies in a folder."""
    seals = sorted(copies.glob(f"*/{SEAL}"), key=lambda each: each.stat().st_mtime, reverse=True)
    return [seal.parent for seal in seals]
