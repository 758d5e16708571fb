"""A repository of the hub: a base model or a data set, and the settings that name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.base_model.hub_cache import RepositoryKind, repository_folder
from pipeline.common.errors import BadInput

_NAME = re.compile(r"^(?:[\w.-]{1,96}/)?[\w.-]{1,96}$")


@dataclass(frozen=True)
class Repository:
    """What is asked of the hub.

    Attributes:
        name: `owner/name`.
        revision: branch, tag or commit; None for the main branch.
    """

    name: str
    revision: str | None = None
    kind: RepositoryKind = "model"

    @property
    def section(self) -> str:
        """Where the config names it: `model` or `data.hub`, each with `repo` and `revision`."""
        return "model" if self.kind == "model" else "data.hub"

    @property
    def path(self) -> str:
        """Of its page on the hub, below the hub's address."""
        return self.name if self.kind == "model" else f"datasets/{self.name}"

    @property
    def folder(self) -> Path:
        """Where the hub's client keeps it."""
        return repository_folder(self.name, self.kind)

    @property
    def instead(self) -> str:
        """What does without the hub."""
        if self.kind == "model":
            return "set model.local_path to a model on this machine"
        return "set data.source local and data.raw_path to a file on this machine"


def require_name(repository: Repository) -> None:
    """Raise `BadInput` where it is no repository name."""
    if not _NAME.match(repository.name) or ".." in repository.name:
        raise bad_name(repository)


def bad_name(repository: Repository) -> BadInput:
    """What to say of a name that is none."""
    return BadInput(
        f"{repository.section}.repo: {repository.name!r} is not a repository name (owner/name)",
        f"humigence config set {repository.section}.repo OWNER/NAME",
    )
