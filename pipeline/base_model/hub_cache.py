"""Where huggingface_hub keeps models and its token on this machine, by huggingface_hub's own rules.

Its constants are read, not its environment variables again: a copy of the rules looks into another folder than a download fills
as soon as the two differ (`XDG_CACHE_HOME`, `HUGGINGFACE_HUB_CACHE`, a `$VAR` in `HF_HOME`). They are fixed at its first import,
which takes a few milliseconds and loads none of its network code; it waits until somebody asks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

RepositoryKind = Literal["model", "dataset"]


def hub_cache() -> Path:
    """The folder of all downloaded repositories."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether huggingface_hub will use no network (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def has_token() -> bool:
    """Whether `huggingface_hub.get_token` would find one: in the environment, or where `hf auth login` saves it.

    Never reads it and never uses the network; `get_token` itself renews tokens.
    """
    from huggingface_hub import constants

    names = ("HF_OIDC_RESOURCE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    if any(os.environ.get(name, "").strip() for name in names):
        return True
    saved = Path(constants.HF_TOKEN_PATH)
    return saved.is_file() and saved.stat().st_size > 0


def repository_folder(repo: str, kind: RepositoryKind = "model") -> Path:
    """Where the hub's client keeps a repository: `models--owner--name`, `datasets--owner--name`."""
    return hub_cache() / f"{kind}s--{repo.replace('/', '--')}"


def cached_snapshot(repo: str, revision: str | None, kind: RepositoryKind = "model") -> Path | None:
    """The folder of `repo` in the hub cache, or None. It may be incomplete: see `locate.problems_of`.

    Args:
        revision: branch, tag or commit; None for the main branch.

    The layout (`models--owner--name/refs`, `snapshots`) is the documented one; huggingface_hub's own look-up imports its network
    code. Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    folder = repository_folder(repo, kind)
    wanted = revision or "main"
    commit = wanted
    if ".." in wanted or wanted.startswith("/") or "\0" in wanted + repo:
        return None  # of a package's manifest: it would lead out of the cache
    reference = folder / "refs" / wanted
    if reference.is_file():
        commit = reference.read_text(encoding="ascii", errors="replace").strip()
    if commit != Path(commit).name:
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None
