"""Starting a run: which folder it lives in, one at a time in a project, and the worker process in its own session.

A start is serialised by a lock of its own, held until the worker has the project's: of twenty simultaneous starts one wins and
the others are told who did.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime

from pipeline import __version__
from pipeline.common.errors import BadInput, EnvironmentFault, MissingArtifact
from pipeline.common.files import write_json
from pipeline.common.redact import redact
from pipeline.config.schema import Config
from pipeline.runner import detached
from pipeline.runner.runner import stands, trained_run
from pipeline.runner.worker import REQUEST_FILE, run_held
from pipeline.runs import control, event_log, store
from pipeline.runs.context import StepContext
from pipeline.runs.events import Event
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.provenance import command_line
from pipeline.runs.request import Request
from pipeline.system import faults as machine_faults
from pipeline.system import locks
from pipeline.system.child_process import child_environment

_WORKER_END_S = 60.0  # a process that held a GPU takes seconds to give it back


@dataclass(frozen=True)
class Started:
    """A run that is on, or (`standing`) a finished one to which nothing has changed. `exit_code` is None while it is on."""

    run: RunFolder
    standing: bool = False
    exit_code: int | None = None
    after_seq: int = 0  # the log's newest event before the start: later ones are of this attempt
    worker: subprocess.Popen[bytes] | None = field(default=None, compare=False)


class ProjectBusy(EnvironmentFault):
    """A run of the project is on."""


def start(workspace: Workspace, config: Config, request: Request, *, see: str = "") -> Started:
    """Start a worker process for `request` and return once it holds the project.

    Args:
        see: UUID of the one GPU the worker may see; empty for what this process may.

    Raises:
        ProjectBusy: a run of the project is on.
        BadInput, MissingArtifact: there is nothing to resume.
    """
    with _starting(workspace, _project(workspace, config, request), request):
        chosen = _choose(workspace, config, request)
        if chosen.standing:
            return chosen
        after_seq = event_log.newest_seq(chosen.run)
        worker = spawn_worker(workspace, chosen.run, see)
        return Started(chosen.run, after_seq=after_seq, worker=worker)


def outlasts(started: Started, seconds: float = _WORKER_END_S) -> int | None:
    """Wait until the worker's process is gone: until then it holds memory of the GPU, though its run has ended.

    Args:
        seconds: that are waited at most.

    Returns:
        The id of the process where it is still there after that, else None.
    """
    if started.worker is None:
        return None
    try:
        started.worker.wait(seconds)
    except subprocess.TimeoutExpired:
        return started.worker.pid
    return None


def in_foreground(
    workspace: Workspace,
    config: Config,
    request: Request,
    emit: Callable[[Event], None] | None = None,
    on_run: Callable[[RunFolder], None] | None = None,
) -> Started:
    """The same in this process: returns when the run has ended, with its exit code.

    Args:
        emit: sees each event after it is in the log.
        on_run: told the run's folder before anything happens in it; not called when nothing has changed.
    """
    with _starting(workspace, _project(workspace, config, request), request) as starting:
        chosen = _choose(workspace, config, request)
        if chosen.standing:
            return chosen
        if on_run:
            on_run(chosen.run)
        # The project's lock is taken by `run_held`; between the two releases nobody else can get past its check.
        return Started(chosen.run, exit_code=run_held(chosen.run, request, also=_then(emit, starting.release)))


def _then(emit: Callable[[Event], None] | None, once: Callable[[], None]) -> Callable[[Event], None]:
    """`emit`, with `once` called before the first event: then the project's lock is held."""
    waiting = [once]

    def emit_and_release(event: Event) -> None:
        while waiting:
            waiting.pop()()
        if emit:
            emit(event)

    return emit_and_release


def _project(workspace: Workspace, config: Config, request: Request) -> str:
    """The project that is worked in: a run that is named to be resumed knows its own."""
    named = request.resume and request.run
    return store.find_run(workspace, request.run).project if named else config.project


@contextmanager
def _starting(workspace: Workspace, project: str, request: Request) -> Iterator[locks.FileLock]:
    """Nobody else can start in the project, and nobody works in it. Errors of the disk inside come out as faults.

    Raises:
        ProjectBusy: a run of the project is on, and the request does not wait, or only for a GPU, as a queued one.
    """
    try:
        while True:
            lock = locks.wait_lock(workspace.start_lock(project))
            assert lock is not None
            with lock:
                pid = locks.holder(workspace.project_lock(project))
                if pid is None:
                    yield lock
                    return
                if not request.wait or request.queued:
                    raise _busy(workspace, project, pid)
            # Queueing holds nothing: whoever does not want to wait is refused meanwhile.
            time.sleep(0.5)
    except OSError as error:
        if fault := machine_faults.as_fault(error, workspace.project(project)):
            raise fault from error
        raise


def _busy(workspace: Workspace, project: str, pid: int) -> ProjectBusy:
    live = next((run for run in store.runs_of(workspace, project) if control.is_alive(run)), None)
    what = f"run {live.run_id}" if live else "another start"
    return ProjectBusy(
        f"project {project!r} is busy: {what} is on (process {pid})",
        "humigence runs follow watches it; humigence runs stop ends it; --wait queues behind it",
    )


# ------------------------------------------------------------------------------------------------ which folder


def _choose(workspace: Workspace, config: Config, request: Request) -> Started:
    """The folder this request works in. A new one only when nothing that stands answers to it."""
    if request.resume:
        return Started(_prepared(_resumable(workspace, config, request), request))
    trained = trained_run(StepContext(config, workspace))
    if trained:
        if request.until == "gates" and stands(StepContext(config, workspace, trained)):
            return Started(trained, standing=True, exit_code=_standing_code(trained))
        if request.train:
            # Trained already: what follows is done again where its settings changed.
            write_json(trained.config, config.to_json())
            return Started(_prepared(trained, request))
    return Started(_prepared(_without_training(workspace, config, request) or _new(workspace, config), request))


def _standing_code(run: RunFolder) -> int:
    return event_log.read_state(run).exit_code or 0


def _new(workspace: Workspace, config: Config) -> RunFolder:
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    return store.create(workspace, config, {"humigence": __version__, "created": created, "seed": config.seed})


def _without_training(workspace: Workspace, config: Config, request: Request) -> RunFolder | None:
    """Preparing again and again fills one folder, not the list of runs."""
    newest = next(iter(store.runs_of(workspace, config.project)), None)
    if request.train or newest is None or event_log.read_state(newest).training:
        return None
    write_json(newest.config, config.to_json())
    return newest


def _resumable(workspace: Workspace, config: Config, request: Request) -> RunFolder:
    run = store.find_run(workspace, request.run, None if request.run else config.project)
    state = event_log.read_state(run)
    if state.status == "finished" and state.train_ended:
        raise BadInput(f"run {run.run_id} is finished: there is nothing to resume", "humigence runs show tells what came out")
    if not state.training:
        raise MissingArtifact(f"run {run.run_id} never trained", "humigence pipeline --train starts training")
    if request.run is None:
        _take_device(run, config)
    return run


def _take_device(run: RunFolder, config: Config) -> None:
    """The device is no part of a result: a run that was copied to another machine goes on with the one that is chosen there."""
    begun = run.load_config()
    if begun.compute != config.compute:
        write_json(run.config, begun.model_copy(update={"compute": config.compute}).to_json())


def _prepared(run: RunFolder, request: Request) -> RunFolder:
    write_json(run.path / REQUEST_FILE, asdict(request) | {"command": redact(command_line())})
    return run


# --------------------------------------------------------------------------------------------------- the worker


def spawn_worker(workspace: Workspace, run: RunFolder, see: str = "") -> subprocess.Popen[bytes]:
    """Start the worker, out of reach of a logout where that is possible; return it once it holds the run or has ended in order.

    Args:
        see: UUID of the one GPU it may see; empty for what this process may.

    Raises:
        EnvironmentFault: it ended without an event in the log, or did not come within two minutes.
    """
    before = event_log.newest_seq(run)
    return detached.spawn(
        ["pipeline.runner.worker", str(run.path)],
        workspace.root,
        child_environment() | ({"CUDA_VISIBLE_DEVICES": see} if see else {}),
        run.output_log,
        is_up=lambda: control.is_alive(run),
        has_come=lambda process: process.poll() in (None, 0) or event_log.newest_seq(run) > before,
        late=EnvironmentFault(f"the worker of run {run.run_id} did not start", f"see {run.output_log}"),
        gone=EnvironmentFault(f"the worker of run {run.run_id} ended at once", f"see {run.output_log}"),
    )
