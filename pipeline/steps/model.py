"""Step 3, model: the base model on this machine, whole. A local folder or GGUF file is checked; a repository is downloaded.

Only safetensors weights, tokenizer and configs are fetched: pickles and Python files never reach this machine.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch

from pipeline.base_model.locate import BaseModel, cached_snapshot, hub_cache, locate, problems_of, require
from pipeline.catalogue import free_disk_bytes
from pipeline.context import StepContext, StepResult
from pipeline.errors import BadInput, EnvironmentFault, HumigenceError, MissingArtifact, Stopped
from pipeline.events import StepProgress
from pipeline.gpu import GIB

# At the top of the repository only: `original/`, `onnx/` and the like hold the same weights in other forms.
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_OTHERS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
    "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "chat_template.jinja",
    "chat_template.json", "LICENSE*", "USE_POLICY*",
)  # fmt: skip
_POLL_S = 0.5
_ROOM_TO_SPARE = 256 << 20
_RETRY = "try again: what was fetched is kept"


def run(ctx: StepContext) -> StepResult:
    """Find the base model, or download it.

    Raises:
        MissingArtifact: the local path is not there; the repository is not in the cache and the hub is switched off.
        BadInput: the model is there and unusable; no such repository or revision; it is gated; it has no safetensors.
        EnvironmentFault: no network, the hub fails, the disk has no room.
    """
    found = locate(ctx.config, ctx.workspace)
    if found:
        return StepResult("unchanged", summary_of(found))
    if not ctx.config.model.local_path:
        download(ctx)
    return StepResult("done", summary_of(require(ctx.config, ctx.workspace)))


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the base model is here, whole."""
    return locate(ctx.config, ctx.workspace) is not None


def summary_of(base: BaseModel) -> str:
    """One line: name, size, place."""
    size = sum(file.stat().st_size for file in base.weight_files())
    amount = f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"
    return f"{base.name}, {amount}, {base.path}"


# ------------------------------------------------------------------------------------------------- downloading


@dataclass(frozen=True)
class _Wanted:
    """What to fetch: names, and bytes in all."""

    names: list[str]
    size: int


def download(ctx: StepContext) -> None:
    """Fetch the repository into the hub cache, with progress in bytes."""
    from huggingface_hub import constants, snapshot_download

    repo, revision = ctx.config.model.repo, ctx.config.model.revision
    if constants.HF_HUB_OFFLINE:
        hint = "unset HF_HUB_OFFLINE and run humigence model download, or set model.local_path"
        raise MissingArtifact(f"the base model {repo} is not on this machine and HF_HUB_OFFLINE is set", hint)
    with _hub_errors_in_words(repo, revision):
        wanted = _choose_files(repo, revision)
    before = _fetched_bytes(repo)
    _check_room(wanted.size - before)

    def fetch() -> None:
        with _hub_errors_in_words(repo, revision):
            snapshot_download(repo, revision=revision, cache_dir=hub_cache(), allow_patterns=wanted.names)

    _follow(_Background(fetch), ctx, repo, wanted.size)
    folder = cached_snapshot(repo, revision)
    problems = problems_of(folder) if folder else ["it is not in the cache"]
    if problems:
        raise BadInput(
            f"{repo} was downloaded and is not a usable base model: {'; '.join(problems)}", "choose another model.repo"
        )


def _choose_files(repo: str, revision: str | None) -> _Wanted:
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
    weights = [name for name in sizes if _is_one_of(name, _WEIGHTS)]
    if not weights:
        message = f"{repo} has no safetensors weights{_what_instead(sizes)}"
        raise BadInput(message, "choose another model.repo, or set model.local_path")
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    names = weights + [name for name in sizes if _is_one_of(name, _OTHERS)]
    return _Wanted(names, sum(sizes[name] for name in names))


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def _what_instead(names: Iterable[str]) -> str:
    names = list(names)
    if any(name.endswith(".gguf") for name in names):
        return "; it has GGUF files: download one and give its path in model.local_path"
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return ", only pickled ones, which can run code when loaded"
    return ""


def _check_room(needed: int) -> None:
    free = free_disk_bytes(hub_cache())
    if needed + _ROOM_TO_SPARE > free:
        message = f"the download needs {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free at {hub_cache()}"
        raise EnvironmentFault(message, "make room, or set HF_HOME to a folder on another disk")


def _fetched_bytes(repo: str) -> int:
    """Bytes of the repository in the cache, half-fetched files included."""
    blobs = hub_cache() / ("models--" + repo.replace("/", "--")) / "blobs"
    total = 0
    try:
        for entry in os.scandir(blobs):
            try:
                total += entry.stat().st_size
            except FileNotFoundError:  # renamed just now
                continue
    except FileNotFoundError:
        return 0
    return total


class _Background:
    """A call in a thread, so that this one can tell how far it is and be stopped. What it raises comes out of `result`."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001  raised again where it is awaited
            self._error = error

    def done(self, within_s: float) -> bool:
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def result(self) -> None:
        if self._error:
            raise self._error


def _follow(work: _Background, ctx: StepContext, repo: str, size: int) -> None:
    last = -1
    while not work.done(_POLL_S):
        fetched = min(size, _fetched_bytes(repo))
        if fetched != last:
            ctx.emit(StepProgress("model", fetched, size, "bytes", repo))
            last = fetched
        if ctx.stop():
            raise Stopped("stopped while downloading", _RETRY)
    work.result()
    ctx.emit(StepProgress("model", size, size, "bytes", repo))


@contextmanager
def _hub_errors_in_words(repo: str, revision: str | None) -> Iterator[None]:
    """What the hub and the network answer, each told apart, each with the next thing to do."""
    from huggingface_hub import errors as hub

    # The exception family of whatever HTTP library this huggingface_hub uses (requests, httpx, …).
    transport: type[Exception] = hub.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except HumigenceError:
        raise
    except hub.GatedRepoError as error:
        hint = f"accept its licence at https://huggingface.co/{repo}, then set HF_TOKEN"
        raise BadInput(f"model.repo: {repo} is gated", hint) from error
    except hub.RevisionNotFoundError as error:
        hint = "humigence config set model.revision null  takes the main branch"
        raise BadInput(f"model.revision: {repo} has no revision {revision!r}", hint) from error
    except hub.RepositoryNotFoundError as error:
        hint = "check the spelling (owner/name); for a private repository set HF_TOKEN"
        raise BadInput(f"model.repo: the hub has no repository {repo}, or it is private", hint) from error
    except hub.HFValidationError as error:
        hint = "humigence config set model.repo OWNER/NAME"
        raise BadInput(f"model.repo: {repo!r} is not a repository name (owner/name)", hint) from error
    except hub.HfHubHTTPError as error:
        raise EnvironmentFault(f"the hub failed on {repo}: {_first_line(error)}", _RETRY) from error
    except (transport, hub.LocalEntryNotFoundError, TimeoutError, ConnectionError) as error:
        message = f"no connection to the hub for {repo}: {_first_line(error)}"
        raise EnvironmentFault(message, f"check the network, then {_RETRY}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentFault(f"the disk is full at {hub_cache()}", "make room, or set HF_HOME to another disk") from error
        raise EnvironmentFault(f"downloading {repo} failed: {error}", _RETRY) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
