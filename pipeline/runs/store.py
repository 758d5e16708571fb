"""Run folders: create, list, find, and the reports in them.

Nothing here imports torch, so the command line and the app can look at a thousand runs at once.
"""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.common.files import disk_bytes, fsync_folder, make_folder, read_json, write_json
from pipeline.runs.control import status_of
from pipeline.runs.event_log import read_state
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.forecast import expect

if TYPE_CHECKING:  # pydantic is a fifth of a second, and a list of runs needs none of it
    from pipeline.config.schema import Config

_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?!\d)")
_STAMP_WIDTH = len("2026-01-01_00-00-00")


def create(workspace: Workspace, config: Config, meta: dict[str, Any]) -> RunFolder:
    """A new run folder, readable by its owner only, holding `config.json` and `meta.json`.

    Args:
        meta: what `meta.json` holds, as JSON.

    Raises:
        OSError: the workspace can't be written to.
    """
    folder = _unused_folder(workspace.project(config.project))
    run = RunFolder(folder)
    write_json(run.meta, meta)
    write_json(run.config, config.to_json())
    return run


def _unused_folder(project: Path) -> Path:
    make_folder(project)
    # A clock that was set back must not make a new run look older than those before it.
    before = [folder.name[:_STAMP_WIDTH] for folder in _folders(project) if _STAMP.match(folder.name)]
    stamp = max([datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S"), *before])
    for attempt in range(1, 10_000):
        folder = project / (stamp if attempt == 1 else f"{stamp}_{attempt:02d}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        fsync_folder(project)
        return folder
    raise BadInput(f"{project}: ten thousand runs in one second")


# -------------------------------------------------------------------------------------------------- finding


def runs_of(workspace: Workspace, project: str | None = None) -> list[RunFolder]:
    """Runs, newest first; of one project or of all."""
    projects = [workspace.project(project)] if project else _folders(workspace.runs)
    found = [RunFolder(folder) for each in projects for folder in _folders(each) if (folder / "config.json").is_file()]
    return sorted(found, key=lambda run: (run.run_id, run.project), reverse=True)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def find_run(workspace: Workspace, selector: str | None = None, project: str | None = None) -> RunFolder:
    """The run a person means.

    Args:
        selector: a run id, the start of one, `project/run id`, or a path; None for the newest.

    Raises:
        MissingArtifact: there is none.
        BadInput: several fit.
    """
    if selector and (Path(selector) / "config.json").is_file():
        return _at(workspace, Path(selector))
    found = runs_of(workspace, project)
    if selector:
        # A project by its whole name is meant before those whose names only begin so, as the runs of a sweep of it do.
        of_project = [run for run in found if run.project == selector]
        found = of_project or [
            run for run in found if run.run_id.startswith(selector) or f"{run.project}/{run.run_id}".startswith(selector)
        ]
    if not found:
        what = f"no run {selector!r}" if selector else "no run yet"
        raise MissingArtifact(f"{what} below {workspace.runs}", "humigence runs lists them; humigence pipeline --train makes one")
    exact = [run for run in found if selector in (run.run_id, f"{run.project}/{run.run_id}")]
    if selector and len(exact) != 1 and len(found) > 1:
        names = ", ".join(f"{run.project}/{run.run_id}" for run in found[:5])
        raise BadInput(f"{selector!r} fits {len(found)} runs: {names}", "give more of the name")
    return (exact or found)[0]


def _at(workspace: Workspace, path: Path) -> RunFolder:
    """The run in a folder; by its name in the workspace where it is one of its runs, whatever links the path goes through."""
    name = path.resolve().name
    same = (run for run in runs_of(workspace) if run.run_id == name and run.path.samefile(path))
    return next(same, RunFolder(Path(os.path.abspath(path))))


# -------------------------------------------------------------------------------------------------- the log


# ------------------------------------------------------------------------------------------ alive, stop, status


def summary(run: RunFolder) -> dict[str, Any]:
    """One row of `humigence runs --json`. Times are ISO 8601; absent values are None."""
    state = read_state(run)
    status, now = status_of(run, state), time.time()
    left_s = expected.left_s(now) if status == "running" and (expected := expect(state)) else None
    return {
        "project": run.project,
        "run_id": run.run_id,
        "state": status,
        "path": str(run.path),
        "started": _iso(state.started),
        "finished": _iso(state.ended),
        "seconds_left": left_s and round(left_s, 1),
        "done_about": _iso(now + left_s) if left_s is not None else None,
        "model": state.model,
        "precision_mode": state.precision_mode,
        "step": state.step,
        "steps": state.total_steps,
        "train_loss": state.train_loss,
        "val_loss": state.val_loss,
        "exit_code": state.exit_code,
        "gates": {gate.gate: gate.verdict for gate in state.gates},
        "disk_bytes": disk_bytes(run.path),
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def read_report(path: Path) -> Any | None:
    """A report in a run folder, or None when its step has not run."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
