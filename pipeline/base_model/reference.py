"""How a package names its base model, so that it can be shared: the repository where one is known, else a path that tells no
more than it must."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.base_model.hub_cache import hub_cache
from pipeline.base_model.locate import BaseModel
from pipeline.config.schema import ModelSection


@dataclass(frozen=True)
class Reference:
    """A base model by name. Either `repo` or `path` is set."""

    repo: str | None = None
    revision: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        return self.repo or self.path or ""


def reference_of(base: BaseModel, model: ModelSection, workspace: Path) -> Reference:
    """The repository of the config; that of a local path that lies in the hub cache; else the path."""
    if not model.local_path:
        return Reference(model.repo, model.revision)
    return _in_hub_cache(base.path) or Reference(path=_sharable(base.path, workspace))


def _in_hub_cache(path: Path) -> Reference | None:
    """What `models--owner--name/snapshots/COMMIT` in the hub cache says of itself."""
    repository, snapshots = path.parent.parent, path.parent
    if snapshots.name != "snapshots" or repository.parent != hub_cache().resolve() or not repository.name.startswith("models--"):
        return None
    return Reference(repository.name.removeprefix("models--").replace("--", "/"), path.name)


def _sharable(path: Path, workspace: Path) -> str:
    """Relative to the workspace (`./models/base`, which no hub client takes for a repository), else to the home (`~/…`)."""
    if path.is_relative_to(workspace.resolve()):
        return f"./{path.relative_to(workspace.resolve())}"
    if path.is_relative_to(Path.home()):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def seen_from(package: Path, base: BaseModel, workspace: Path) -> str:
    """The way from a package's folder to the folder of its base model, which says no more than where they lie in the workspace.

    Empty where one of them lies elsewhere.
    """
    folder = base.path.parent if base.kind == "gguf" else base.path
    if not (package.is_relative_to(workspace.resolve()) and folder.is_relative_to(workspace.resolve())):
        return ""
    return os.path.relpath(folder, package)


def places(path: str, package: Path) -> list[Path]:
    """Where a package's path may lead: from the current folder, or from the workspace that holds `artifacts/<project>`."""
    expanded = os.path.expanduser(path)
    return [start / expanded for start in (Path.cwd(), package.resolve().parent.parent)]
