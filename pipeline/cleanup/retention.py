"""What may be deleted: runs, prepared data, and what killed processes left. Never what a live run or a package needs.

A run is needed while a process works in it, and while a package in an artifacts folder names it. Prepared data is needed by the
runs that stay, by those that are on, and by the configs of the workspace; outside of the workspace it stays, for others may
need it. Nothing is deleted here (see `removal`).
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.common import files
from pipeline.common.errors import HumigenceError
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.export.package_folder import MANIFEST
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import RunFolder, Workspace

KEPT_NEWEST = 5
_NEW_S = 3600.0  # prepared data or a run folder this young may belong to a command that is at work
Kind = Literal["run", "prepared data", "left over"]


@dataclass(frozen=True)
class Item:
    """Something on the disk, and why it is retained or removed."""

    kind: Kind
    path: Path
    size_bytes: int
    why: str

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}" if self.kind == "run" else self.path.name


@dataclass(frozen=True)
class Pruning:
    """What goes, and the runs and the data that stay."""

    remove: tuple[Item, ...]
    keep: tuple[Item, ...]

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.remove)


def plan(workspace: Workspace, *, keep: int = KEPT_NEWEST, project: str | None = None) -> Pruning:
    """Keep the newest `keep` runs of each project, those that are on or packed, and the data they refer to.

    Args:
        project: only this project's runs go; data and leavings belong to no project and are looked at always.
    """
    old, retained = _divide_runs(workspace, keep, project)
    gone = {item.path for item in old}
    staying = [run for run in store.runs_of(workspace) if run.path not in gone]
    needed = _needed_data(workspace, staying)
    unused, used = list[Item](), list[Item]()
    for folder in _data_folders(workspace):
        why = needed.get(folder) or needed.get(folder.parent) or _young(folder) or _shared(folder, workspace)
        (used if why else unused).append(_item("prepared data", folder, why or "no run and no config refers to it"))
    left = [_item("left over", path, "its process has died") for path in left_over(workspace, staying)]
    return Pruning((*old, *unused, *left), (*retained, *used))


def _divide_runs(workspace: Workspace, keep: int, project: str | None) -> tuple[list[Item], list[Item]]:
    """(those that go, those that stay)"""
    packed = packed_runs(workspace)
    old, retained, seen = list[Item](), list[Item](), dict[str, int]()
    for run in store.runs_of(workspace, project):
        number = seen[run.project] = seen.get(run.project, 0) + 1
        newest = f"{_among(keep)} of its project" if number <= keep else ""
        why = why_needed(run, packed) or newest
        (retained if why else old).append(_item("run", run.path, why or _older_than(keep)))
    return old, retained


def _among(keep: int) -> str:
    return "the newest" if keep == 1 else f"among the {keep} newest"


def _older_than(keep: int) -> str:
    if not keep:
        return "nothing needs it"
    return "older than the newest of its project" if keep == 1 else f"older than the {keep} newest of its project"


def _item(kind: Kind, path: Path, why: str) -> Item:
    return Item(kind, path, files.disk_bytes(path), why)


# ------------------------------------------------------------------------------------------------------------- runs

Packed = dict[tuple[str, str | None], Path]


def why_needed(run: RunFolder, packed: Packed) -> str:
    """Why a run must stay whatever anybody wants; empty when it need not."""
    if control.is_alive(run):
        return "it is on"
    package = packed.get((run.project, run.run_id)) or packed.get((run.project, None))
    return f"{package} was packed from it" if package else ""


def packed_runs(workspace: Workspace) -> Packed:
    """(project, run id) -> the package made from it. A manifest that can't be read speaks for every run of its project: None."""
    found: Packed = {}
    for place in artifacts_folders(workspace):
        for manifest in place.glob(f"*/{MANIFEST}"):
            document = _document(manifest)
            project, run_id = document.get("project"), document.get("run_id")
            if isinstance(project, str) and isinstance(run_id, str):
                found[project, run_id] = manifest.parent
            else:
                found[manifest.parent.name, None] = manifest.parent
    return found


def artifacts_folders(workspace: Workspace) -> set[Path]:
    return _named_folders(workspace, "export", "artifacts_dir", Config().export.artifacts_dir)


def processed_folders(workspace: Workspace) -> set[Path]:
    return _named_folders(workspace, "data", "processed_dir", Config().data.processed_dir)


def _named_folders(workspace: Workspace, section: str, key: str, default: str) -> set[Path]:
    """The folders that the workspace's runs and configs name for this setting. Read without checking: there are many."""
    paths = [*(run.config for run in store.runs_of(workspace)), *_configs(workspace)]
    sections = [_document(path).get(section) for path in paths]
    names = [each.get(key) for each in sections if isinstance(each, dict)]
    return {workspace.resolve(name) for name in (default, *names) if isinstance(name, str) and name}


def _configs(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / "configs").glob("*.json"))


def _document(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    try:
        document = files.read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


# ---------------------------------------------------------------------------------------------------- prepared data


def _data_folders(workspace: Workspace) -> list[Path]:
    """Every folder of prepared data. Whatever else lies beside them is not ours to touch."""
    found = (path.parent for place in processed_folders(workspace) for path in place.glob("*/report.json"))
    return sorted(folder for folder in found if _document(folder / "report.json").get("fingerprint") == folder.name)


def _needed_data(workspace: Workspace, staying: Iterable[RunFolder]) -> dict[Path, str]:
    """Folder -> why it must stay; a whole place where a live run has not yet recorded which folder in it it takes."""
    needed: dict[Path, str] = {}
    for path in _configs(workspace):
        with contextlib.suppress(HumigenceError, OSError):  # what can't be read can't be trained with
            if found := processed.find_processed(config_file.load(str(path), workspace.root), workspace):
                needed[found.folder] = f"{path.relative_to(workspace.root)} refers to it"
    for run in staying:
        section = _document(run.config).get("data")
        name = section.get("processed_dir") if isinstance(section, dict) else None
        place = workspace.resolve(name or Config().data.processed_dir)
        if isinstance(fingerprint := _document(run.preprocess_report).get("fingerprint"), str):
            needed[place / fingerprint] = f"run {run.project}/{run.run_id} was made from it"
        if control.is_alive(run) and not _is_past_preprocess(run):
            needed[place] = f"run {run.project}/{run.run_id} is on"
    return needed


def _is_past_preprocess(run: RunFolder) -> bool:
    """In this attempt: steps of an earlier one are emitted again as they begin."""
    state = event_log.read_state(run)
    step = state.steps["preprocess"]
    return step.outcome is not None and (step.started or 0.0) >= (state.attempt_started or 0.0)


def _young(folder: Path) -> str:
    return "made within the last hour" if time.time() - folder.stat().st_mtime < _NEW_S else ""


def _shared(folder: Path, workspace: Workspace) -> str:
    """Only the runs of this workspace are known. What lies outside of it another one may have been trained on, and resume."""
    if folder.resolve().is_relative_to(workspace.root.resolve()):
        return ""
    return f"it lies outside of this folder, so runs elsewhere may need it; where none does: rm -r {shlex.quote(str(folder))}"


# -------------------------------------------------------------------------------------------------------- leavings


def left_over(workspace: Workspace, staying: Iterable[RunFolder]) -> Iterator[Path]:
    """What killed processes left: half-made folders, runs without a config, half-saved checkpoints of runs that are not on.

    Args:
        staying: the runs that are not removed anyway.
    """
    for place in places(workspace):
        yield from files.left_behind(place)
    for project in projects(workspace):
        yield from nameless_runs(project)
    for run in staying:
        if not control.is_alive(run):
            yield from files.left_behind(run.path)
            yield from run.checkpoints.glob(".step-*")


def nameless_runs(project: Path) -> list[Path]:
    """Run folders whose process died before there was a config in them."""
    folders = [
        path for path in project.iterdir() if path.is_dir() and path.name[0] != "." and not (path / "config.json").exists()
    ]
    return [path for path in folders if not _young(path) and not control.is_alive(RunFolder(path))]


def places(workspace: Workspace) -> list[Path]:
    """Folders in which whole folders appear and go."""
    return [*projects(workspace), *processed_folders(workspace), *artifacts_folders(workspace)]


def projects(workspace: Workspace) -> list[Path]:
    return sorted(path for path in workspace.runs.glob("*") if path.is_dir() and path.name[0] != ".")
