"""Files of a repository into the hub cache: what is there is reused, a cut download goes on where it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.base_model.hub_cache import hub_cache
from pipeline.common.errors import Stopped
from pipeline.hub.answers import RETRY, translate_hub_errors
from pipeline.hub.fetch import FetchCallbacks, announced, fetch, persistently
from pipeline.hub.repository import Repository
from pipeline.runs.context import StepContext
from pipeline.runs.events import Note, StepName
from pipeline.runs.progress import Progress, Throttle
from pipeline.system import disk, locks

_ROOM_TO_SPARE = 256 << 20


@dataclass(frozen=True)
class Listing:
    """What the hub says of a repository.

    Attributes:
        commit: which the revision stands for now.
        sizes: bytes of each file, by its name.
        card: the metadata of its card.
    """

    commit: str
    sizes: Mapping[str, int]
    card: Mapping[str, Any]


def listing_of(repository: Repository) -> Listing:
    """Ask the hub. Raises what its client raises."""
    from huggingface_hub import HfApi

    ask = HfApi().model_info if repository.kind == "model" else HfApi().dataset_info
    info = ask(repository.name, revision=repository.revision, files_metadata=True)
    card: Any = info.card_data
    card = card.to_dict() if hasattr(card, "to_dict") else card
    return Listing(
        commit=info.sha or repository.revision or "main",
        sizes={each.rfilename: each.size or 0 for each in info.siblings or []},
        card=card if isinstance(card, dict) else {},
    )


def download(ctx: StepContext, step: StepName, repository: Repository, choose: Callable[[Listing], Sequence[str]]) -> Listing:
    """Fetch what `choose` names, of one commit, whatever is pushed meanwhile.

    Raises:
        BadInput, EnvironmentFault: as `translate_hub_errors`; the disk has no room.
        Stopped: the person asked for it; what came stays.
    """
    with translate_hub_errors(repository):
        lock = locks.wait_lock(repository.folder / ".humigence.lock", give_up=lambda: ctx.stop() is not None)
        if lock is None:
            raise Stopped("stopped while downloading", RETRY)
        with lock:
            return _download(ctx, step, repository, choose)


def _download(ctx: StepContext, step: StepName, repository: Repository, choose: Callable[[Listing], Sequence[str]]) -> Listing:
    from huggingface_hub import snapshot_download

    progress = Progress(ctx, step, 0, "bytes", repository.name)
    callbacks = _callbacks(ctx, progress)
    listing = persistently(lambda: listing_of(repository), callbacks, first=True)
    names, commit = list(choose(listing)), listing.commit
    files = [persistently(partial(announced, repository, commit, name, listing.sizes[name]), callbacks) for name in names]
    progress.done, progress.total = sum(file.present() for file in files), sum(file.size for file in files)
    progress.emit()
    if missing := sum(file.size - file.present() for file in files):
        hint = "make room, or set HF_HOME to a folder on another disk"
        disk.require_free(hub_cache(), missing + _ROOM_TO_SPARE, f"downloading {repository.name}", hint)
    for file in files:
        fetch(file, callbacks)
    progress.emit()
    # Every blob is there: this links them into a snapshot as the hub's client finds it, and writes which commit main is.
    link = partial(snapshot_download, repository.name, repo_type=repository.kind, revision=repository.revision)
    persistently(lambda: link(cache_dir=hub_cache(), allow_patterns=_literal(names), max_workers=1), callbacks)
    return listing


def _literal(names: Sequence[str]) -> list[str]:
    """Patterns that take these names and no others: a name may hold what a pattern means something by."""
    return [name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for name in names]


def _callbacks(ctx: StepContext, progress: Progress) -> FetchCallbacks:
    """What a fetch reports goes into the run's log, and it is asked to end where the run is."""
    look, asked = Throttle(), [False]

    def stop() -> bool:
        if look.is_due():
            asked[0] = ctx.stop() is not None
        return asked[0]

    return FetchCallbacks(progress.advance, lambda sentence: ctx.emit(Note(sentence, "warning")), stop)
