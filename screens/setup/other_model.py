"""A base model that is typed: what is meant, of the hub or of this machine, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.repository import is_repository, repository_named
from pipeline.runs.folders import Workspace

MODEL_FILES = (".gguf",)
_WHICH = "say which: owner/name on the hub, a folder, or a .gguf file"


def entries_of(text: str, root: Path) -> dict[str, str]:
    """The settings that the text stands for; the address of a page of the hub is the repository's name."""
    named = repository_named(text.strip())
    return {"model.local_path": named} if is_path(named, root) else {"model.local_path": "", "model.repo": named}


def is_path(text: str, root: Path) -> bool:
    """Whether a model is meant by its place on this machine: written like a path, or there."""
    if text.startswith(("/", "./", "../", "~")) or text.endswith(MODEL_FILES):
        return True
    return bool(text) and "\0" not in text and (root / text).exists()


def problem_of(repo: str, local_path: str, root: Path) -> str:
    """Why what was typed is no model; empty where it may be one."""
    if local_path:
        return _problem_of_path(local_path, root)
    if not repo:
        return _WHICH
    if not is_repository(repo) or "/" not in repo:
        return f"no such file or folder here, and a model of the hub is owner/name: {_WHICH}"
    return ""


def _problem_of_path(text: str, root: Path) -> str:
    if "\0" in text:
        return "a path can't hold a NUL character"
    place = Workspace(root).resolve(text)
    try:
        if place.is_dir():
            lacking = not (place / "config.json").is_file() and not list(place.glob("*.gguf"))
            return "this folder has no config.json: give the model's own folder, or a .gguf file" if lacking else ""
        if not place.exists():
            return f"there is no such file or folder: {_WHICH}"
    except OSError as error:
        return error.strerror or str(error)
    return "" if place.suffix in MODEL_FILES else "this file is no .gguf: give a .gguf file or the model's folder"
