"""The rows of a data set of the hub on this machine, pinned to a commit.

They lie where the hub's client keeps them (`datasets--owner--name/snapshots/<commit>/`). Which of the files are meant was settled
when they were fetched; it stands beside them (`humigence/<commit>/`), so that nothing is asked of the hub again.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.base_model.hub_cache import cached_snapshot, is_offline
from pipeline.common import files
from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.text import size
from pipeline.config.schema import HubSection
from pipeline.dataset.hub.layout import Chosen, choose
from pipeline.hub.access import require_access
from pipeline.hub.answers import translate_hub_errors
from pipeline.hub.download import Listing, download, listing_of
from pipeline.hub.repository import Repository, require_name
from pipeline.runs.context import StepContext

_OURS = "humigence"
DOWNLOAD = "humigence data download"


@dataclass(frozen=True)
class HubRows:
    """Rows that are here.

    Attributes:
        path: the file, or a folder of links to the files.
        licence: as the card names it; "" where it doesn't.
    """

    repo: str
    commit: str
    chosen: Chosen
    licence: str
    path: Path

    @property
    def name(self) -> str:
        """For a person: `tatsu-lab/alpaca, train, at 2db2d3cd7a5f`."""
        subset = f"{self.chosen.subset}, " if self.chosen.other_subsets else ""
        return f"{self.repo}, {subset}{self.chosen.split}, at {self.commit[:12]}"

    @property
    def beside(self) -> str:
        """What else there is in the data set; "" where there is nothing."""
        parts = [
            f"{what} {', '.join(others[:5])}{f' and {len(others) - 5} more' if len(others) > 5 else ''}"
            for what, others in (
                ("subsets", self.chosen.other_subsets),
                ("splits", self.chosen.other_splits),
                ("files of another kind", self.chosen.left_out),
            )
            if others
        ]
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """For the report of preparing."""
        chosen = self.chosen
        return {
            "repo": self.repo, "commit": self.commit, "subset": chosen.subset, "split": chosen.split, "files": list(chosen.files),
            "licence": self.licence,
        }  # fmt: skip


def repository_of(hub: HubSection) -> Repository:
    return Repository(hub.repo, hub.revision, "dataset")


def find(hub: HubSection) -> HubRows | None:
    """The rows, where all of their files are here."""
    snapshot = cached_snapshot(hub.repo, hub.revision, "dataset") if hub.repo else None
    if snapshot is None:
        return None
    try:
        return _read(hub, snapshot)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not fetched with these settings, or damaged: it is settled anew


def _read(hub: HubSection, snapshot: Path) -> HubRows | None:
    note = _place(hub, snapshot.name)
    document = files.read_json(note.with_name(note.name + ".json"))
    chosen = Chosen(**_with_tuples(document["chosen"]))
    if not chosen.files or not all((snapshot / name).is_file() for name in chosen.files):
        return None
    path = snapshot / chosen.files[0] if len(chosen.files) == 1 else note
    return HubRows(hub.repo, snapshot.name, chosen, document["licence"], path) if path.exists() else None


def _with_tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}


def path_of(hub: HubSection) -> Path:
    """Where the rows are, or, where they are not here, a place at which nothing is."""
    found = find(hub)
    return found.path if found else repository_of(hub).folder / _OURS / "not-here"


def require_here(hub: HubSection) -> HubRows:
    """Raise `MissingArtifact` where the rows are not on this machine."""
    require_named(hub)
    if (found := find(hub)) is None:
        raise MissingArtifact(f"the data set {hub.repo} is not on this machine", DOWNLOAD)
    return found


def require_named(hub: HubSection) -> None:
    """Raise `BadInput` where the config names no data set."""
    if not hub.repo:
        raise BadInput("data.hub.repo: no data set is named (data.source hub)", "humigence config set data.hub.repo OWNER/NAME")
    require_name(repository_of(hub))


def require_fetchable(hub: HubSection) -> None:
    """Ask the hub whether it has the split and gives it to this machine. Fetches nothing.

    Raises:
        BadInput: no such data set, subset or split; or it does not open.
        MissingArtifact: the hub is switched off.
        EnvironmentFault: it could not be asked.
    """
    require_named(hub)
    _require_network(hub)
    repository = repository_of(hub)
    with translate_hub_errors(repository):
        listing = listing_of(repository)
        chosen = choose(listing.sizes, listing.card, hub)
    require_access(repository, chosen.files[0])


def _require_network(hub: HubSection) -> None:
    if is_offline():
        hint = f"unset HF_HUB_OFFLINE and run {DOWNLOAD}, or {repository_of(hub).instead}"
        raise MissingArtifact(f"the data set {hub.repo} is not on this machine and HF_HUB_OFFLINE is set", hint)


def fetch(ctx: StepContext, hub: HubSection) -> HubRows:
    """Fetch the files of the split, of the commit that the revision stands for now; what is here is reused.

    Raises:
        BadInput, MissingArtifact, EnvironmentFault: as `require_fetchable`; the disk has no room.
        Stopped: the person asked for it; what came stays.
    """
    require_named(hub)
    _require_network(hub)
    picked: list[Chosen] = []

    def wanted(listing: Listing) -> tuple[str, ...]:
        picked.append(choose(listing.sizes, listing.card, hub))
        return picked[-1].files

    listing = download(ctx, "preprocess", repository_of(hub), wanted)
    _write(hub, listing, picked[-1])
    if (found := find(hub)) is None:
        raise BadInput(f"{hub.repo} was downloaded and its files are not in the cache", DOWNLOAD)
    return found


def _write(hub: HubSection, listing: Listing, chosen: Chosen) -> None:
    """What was settled, and of several files a folder of links to them: it is read as any folder is."""
    repository = repository_of(hub)
    place, snapshot = _place(hub, listing.commit), repository.folder / "snapshots" / listing.commit
    if len(chosen.files) > 1:
        with files.new_folder(place) as folder:
            for name in chosen.files:
                link = folder / name
                link.parent.mkdir(parents=True, exist_ok=True)
                # From where the folder will stand, not from where it is filled.
                link.symlink_to(os.path.relpath(snapshot / name, (place / name).parent))
    files.write_json(place.with_name(place.name + ".json"), {"chosen": asdict(chosen), "licence": _licence(listing)})


def _licence(listing: Listing) -> str:
    found = listing.card.get("license")
    named = found if isinstance(found, list) else [found]
    return ", ".join(each for each in named if isinstance(each, str))[:100]


def _place(hub: HubSection, commit: str) -> Path:
    """For what is asked for at a commit: another subset or split is another place."""
    asked = "--".join(quote(each or "any", safe="") for each in (hub.subset, hub.split))
    return repository_of(hub).folder / _OURS / commit / asked


def size_in_words(rows: HubRows) -> str:
    """ "2 files, 24 MiB"."""
    sizes = [(rows.path if rows.path.is_file() else rows.path / name).stat().st_size for name in rows.chosen.files]
    return f"{len(sizes)} file{'s' * (len(sizes) != 1)}, {size(sum(sizes))}"
