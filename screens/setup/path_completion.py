"""Completing a path as it is typed: what is in the folder so far that begins like the rest. No Textual here."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

MOST = 200  # a folder of a million files must not fill the memory of a form


def completions(text: str, root: Path, suffixes: Collection[str], most: int = MOST) -> list[str]:
    """Paths that begin with `text`, written as the person writes them: folders (ending in `/`), and files of these endings.

    Args:
        root: what a relative path is relative to.
        suffixes: with their dot, lower case. Names that begin with a dot are offered only when a dot was typed.

    Names that can't be typed (control characters, bytes that are no text) are left out.
    """
    typed_folder, _, begun = text.rpartition("/")
    typed_folder += "/" if "/" in text else ""
    folder = root / os.path.expanduser(typed_folder) if typed_folder else root
    found: list[tuple[bool, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(found) >= most:
                    break
                if not _offered(entry.name, begun):
                    continue
                is_folder = _is_folder(entry)
                if is_folder or (is_folder is False and os.path.splitext(entry.name)[1].lower() in suffixes):
                    found.append((is_folder, entry.name + ("/" if is_folder else "")))
    except (OSError, ValueError):  # not there, not a folder, not ours to read; ValueError: a NUL was pasted
        return []
    # What can be taken stands before the folders that may hold it.
    return [typed_folder + name for _, name in sorted(found, key=lambda each: (each[0], each[1].lower()))]


def _offered(name: str, begun: str) -> bool:
    hidden = name.startswith(".") and not begun.startswith(".")
    return not hidden and name.isprintable() and name.lower().startswith(begun.lower())


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """Whether it is a folder; None for what is neither folder nor file (a pipe, a dangling link)."""
    try:
        return True if entry.is_dir() else False if entry.is_file() else None
    except OSError:
        return None


def common_start(text: str, candidates: list[str]) -> str:
    """The longest text that all candidates begin with, never shorter than what was typed."""
    # Of texts in order, what the first and the last share all of them share.
    first, last = min(candidates, default=text), max(candidates, default=text)
    shared = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), min(len(first), len(last))
    )
    return first[:shared] if shared > len(text) else text
