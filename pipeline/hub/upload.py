"""Files of a folder sent to a repository of the hub, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.base_model.hub_cache import has_token
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.hub.answers import TOKENS, first_line, translate_hub_errors
from pipeline.hub.repository import Repository


def upload(folder: Path, names: Sequence[str], repo: str, *, private: bool, message: str) -> str:
    """Make the repository where there is none, and put the files into it.

    Args:
        names: of files below `folder`; nothing else of it is sent.
        private: whether a repository that is made is; one that is there stays as it is.

    Returns:
        The address of the commit.

    Raises:
        MissingArtifact: there is no token.
        BadInput: the name is none, or the token may not write there.
        EnvironmentFault: the network, or the hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not has_token():
        raise MissingArtifact("there is no token for the hub", f"hf auth login, or HF_TOKEN, with one that may write: {TOKENS}")
    api = HfApi()
    with translate_hub_errors(Repository(repo)):
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            files = [CommitOperationAdd(path_in_repo=name.rpartition("/")[2], path_or_fileobj=folder / name) for name in names]
            done = api.create_commit(repo, files, commit_message=message)
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                hint = f"give the token write access to it at {TOKENS}, or choose a repository of your own"
                raise BadInput(f"the hub does not let this token write to {repo}: {first_line(error)}", hint) from error
            raise
    return str(done.commit_url)
