"""Deleting runs, prepared data and what killed processes left. What goes loses its name first, so that a death leaves no half."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.cleanup import retention
from pipeline.cleanup.retention import KEPT_NEWEST, Pruning
from pipeline.common import files
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.runs import checkpoint_folders, control, store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks

_START_S = 10.0  # how long somebody else's start is waited for


def require_removable(workspace: Workspace, run: RunFolder) -> None:
    """Refuse to remove what is needed.

    Raises:
        EnvironmentFault: the run is on.
        BadInput: a package needs it, or it lies in another workspace.
    """
    name = f"{run.project}/{run.run_id}"
    if run not in store.runs_of(workspace):
        raise BadInput(f"{run.path} is no run of this folder", "humigence runs lists them")
    if control.is_alive(run):
        raise _is_on(run)
    if why := retention.why_needed(run, retention.packed_runs(workspace)):
        raise BadInput(f"run {name} is not removed: {why}", "delete that package first, or pack another run over it")


def _is_on(run: RunFolder) -> EnvironmentFault:
    name = f"{run.project}/{run.run_id}"
    return EnvironmentFault(
        f"run {name} is on (process {locks.holder(run.lock) or '?'}): it is not removed", f"humigence runs stop {name} ends it"
    )


def remove_run(workspace: Workspace, run: RunFolder) -> None:
    """Delete a run, if nothing needs it at this moment.

    Raises:
        BadInput: a package needs it.
        EnvironmentFault: it is on, or the disk refuses.
    """
    with _no_starts(workspace, [run.project]):
        require_removable(workspace, run)
        _remove_held(run)


def prune(workspace: Workspace, asked: Pruning, *, keep: int = KEPT_NEWEST, project: str | None = None) -> Pruning:
    """Remove what was asked for as far as the plan made now agrees: between question and answer a run may have begun.

    Args:
        asked: the plan a person agreed to.
        keep: runs of each project that stay, as in that plan.
        project: the only one whose runs go, as in that plan; None for all.

    Returns:
        What was removed, and what stays.
    """
    wanted = {item.path for item in asked.remove}
    with _no_starts(workspace, [path.name for path in retention.projects(workspace)]):
        now = retention.plan(workspace, keep=keep, project=project)
        removed = tuple(item for item in now.remove if item.path in wanted)
        for item in removed:
            if item.kind == "run":
                _remove_held(RunFolder(item.path))
            elif item.kind == "prepared data":
                _remove(item.path)
        _clear_left_over(workspace)
    return Pruning(removed, now.keep)


def _clear_left_over(workspace: Workspace) -> None:
    for project in retention.projects(workspace):
        for path in retention.nameless_runs(project):
            _remove(path)
    for place in retention.places(workspace):
        files.clear_left_behind(place)
    for run in store.runs_of(workspace):
        if files.left_behind(run.path) or any(run.checkpoints.glob(".step-*")):
            lock = locks.try_lock(run.lock)
            if lock:
                with lock:
                    _clear_inside(run)


def clear_left_behind(run: RunFolder, config: Config, workspace: Workspace) -> None:
    """Clear away what killed processes left where this run works. The caller holds the run's lock."""
    for place in (
        run.path.parent,
        *(workspace.resolve(name) for name in (config.data.processed_dir, config.export.artifacts_dir)),
    ):
        files.clear_left_behind(place)
    _clear_inside(run)


def _clear_inside(run: RunFolder) -> None:
    files.clear_left_behind(run.path)
    for path in run.path.glob(".*.tmp"):
        # Whoever holds the lock writes everything in the folder but these two.
        if path.is_file() and not path.name.startswith((f".{run.stop_request.name}.", ".state.")):
            path.unlink(missing_ok=True)
    checkpoint_folders.clear_unfinished(run.checkpoints)


# ---------------------------------------------------------------------------------------------------------- locks


def _remove_held(run: RunFolder) -> None:
    lock = locks.try_lock(run.lock)
    if lock is None:
        raise _is_on(run)
    with lock:
        _remove(run.path)


def _remove(path: Path) -> None:
    try:
        files.remove_folder(path)
    except OSError as error:
        where = error.filename or path
        raise EnvironmentFault(
            f"{where} cannot be removed: {error.strerror or error}", "give this user access to it, then do it again"
        ) from error


@contextmanager
def _no_starts(workspace: Workspace, projects: Iterable[str]) -> Iterator[None]:
    """Nobody chooses a run, or prepared data, to go on with while the block lasts."""
    until = time.monotonic() + _START_S
    with ExitStack() as held:
        for project in sorted(projects):
            lock = locks.wait_lock(workspace.start_lock(project), give_up=lambda: time.monotonic() > until)
            if lock is None:
                raise EnvironmentFault(f"a run of project {project!r} is being started", "do it again when it is on")
            held.enter_context(lock)
        yield
