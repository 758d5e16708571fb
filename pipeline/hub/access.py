"""Whether the hub would let this machine download a repository: asked with one request, before anything is fetched."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pipeline.base_model.hub_cache import hub_cache
from pipeline.hub.answers import NotTheHub, translate_hub_errors
from pipeline.hub.repository import Repository

PATIENCE_S = 10.0  # for the one answer; a person waits


def require_access(repository: Repository, file: str = "config.json") -> None:
    """Ask for the head of a file of the repository: what a gated repository is, everybody may read; its files are the gate.

    Sends the token where there is one. Fetches nothing, writes nothing.

    Raises:
        BadInput: there is no such repository or revision, or it does not open: no token, a bad one, one without the right, the
            licence not accepted, the request still in review. The hint says where to accept it and how to log in.
        EnvironmentFault: the hub could not be asked.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.name, file, repo_type=repository.kind, revision=repository.revision)
    # Without that file it opens too; what it lacks is for whoever downloads it to tell.
    with translate_hub_errors(repository), suppress(errors.EntryNotFoundError):
        _require_the_hub(get_hf_file_metadata(url, timeout=PATIENCE_S))


def fetch_config(repo: str, revision: str | None = None) -> None:
    """Fetch the repository's config.json alone into the hub's cache, a few kilobytes: it settles what kind of model it is.

    Raises:
        BadInput, EnvironmentFault: as `require_access`.
    """
    from huggingface_hub import errors, hf_hub_download

    with translate_hub_errors(Repository(repo, revision)), suppress(errors.EntryNotFoundError):
        hf_hub_download(repo, "config.json", revision=revision, cache_dir=hub_cache(), etag_timeout=PATIENCE_S)


def _require_the_hub(found: Any) -> None:
    if not found.commit_hash:
        raise NotTheHub("")
