"""Starts the runs of a queue, each once its project and a device are free, until none is left.

Nothing it knows is only in its memory. Before a run is started it is "starting" in the queue's file, and the run's folder carries
the queued run's key, so whoever takes over after a death sees which were begun: none is started twice and none is forgotten.
Runs live in processes of their own and go on without it.
"""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from pipeline.common.errors import EnvironmentFault, GatesFailed, HumigenceError
from pipeline.common.files import read_json
from pipeline.common.text import duration
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runner.launch import ProjectBusy, Started
from pipeline.runner.queue_devices import CPU, Devices
from pipeline.runner.worker import REQUEST_FILE
from pipeline.runs import control, event_log, post_mortem, store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.queue import Outcome, Queue, Queued, waiting
from pipeline.runs.request import Request
from pipeline.runs.state import RunState
from pipeline.system import locks

EVERY_S = 1.0
_WORKER_END_S = 60.0  # after its run a process gives back what it held of a GPU; one that hangs does not hold up the others


class Starter(Protocol):
    """How runs are started; tests have a stand-in."""

    def start(self, workspace: Workspace, config: Config, request: Request, *, see: str = "") -> Started:
        """As `launch.start`."""

    def spawn_worker(self, workspace: Workspace, run: RunFolder, see: str = "") -> subprocess.Popen[bytes]:
        """As `launch.spawn_worker`."""


class QueueRunner:
    """
    Args:
        say: gets each line for the log.
        starter: starts a run.
        devices: what is free.
    """

    def __init__(
        self, queue: Queue, say: Callable[[str], None], *, starter: Starter = launch, devices: Devices | None = None
    ) -> None:
        self._queue, self._say, self._starter = queue, say, starter
        self._workspace = queue.workspace
        self._devices = devices or Devices(queue.workspace)
        self._workers: dict[int, Started] = {}
        self._ended_at: dict[int, float] = {}
        self._failed = 0
        self._full = False

    def run(self, *, stop: Callable[[], bool] = lambda: False, every_s: float = EVERY_S) -> None:
        """Until nothing waits and nothing is on, or `stop()`, or the queue is asked to.

        Raises:
            EnvironmentFault: another process runs the queue.
        """
        lock: locks.FileLock | None = self._queue.take()
        while lock is not None:
            with lock:
                while self._looked():
                    if stop() or self._queue.stop_requested():
                        self._say_stopped()
                        return
                    time.sleep(every_s)
            # Whoever added one a moment ago saw the lock held, and took it that somebody starts it.
            lock = locks.try_lock(self._queue.runner_lock) if waiting(self._queue.read()) else None
        self._say("the queue is empty" + (f"; {self._failed} stopped, failed or did not pass" if self._failed else ""))

    def _say_stopped(self) -> None:
        runs = self._queue.read()
        on = sum(each.is_on for each in runs)
        self._say(f"the queue has stopped: {on} on, which {'goes' if on == 1 else 'go'} on, and {len(waiting(runs))} waiting")

    def _looked(self) -> bool:
        """`look`, again later where the disk takes nothing: what was decided is in the queue's file, or was not decided."""
        try:
            return self.look()
        except OSError as error:
            if not self._full:
                self._say(f"the queue can't be written, and waits until it can: {error.strerror or error}")
            self._full = True
            return True

    def look(self) -> bool:
        """See which have ended, start what can start; whether there is anything left to do."""
        for each in self._queue.read():
            if each.state == "starting":
                self._take_over(each)  # of one that died, or could not write down what it did
            elif each.state == "running":
                self._see_to(each)
        blocked: dict[str, str] = {}
        for each in waiting(self._queue.read()):
            if self._queue.stop_requested():
                break
            self._try(each, blocked)
        return any(each.state != "ended" for each in self._queue.read())

    # ------------------------------------------------------------------------------------------------- starting

    def _try(self, queued: Queued, blocked: dict[str, str]) -> None:
        """Start it where it can be; else leave down what it waits for.

        Args:
            blocked: `compute.gpu` -> what a run that asked for it waits for; added to.
        """
        wanted = str(queued.config.get("compute", {}).get("gpu", "auto"))
        if wanted in blocked:
            self._wait(queued, blocked[wanted])
            return
        if (pid := locks.holder(self._workspace.project_lock(queued.project))) is not None:
            self._wait(queued, f"project {queued.project}: another run of it is on (process {pid})")
            return
        taken = {each.device for each in self._queue.read() if each.is_on and each.device}
        choice = self._devices.choose(wanted, taken)
        if choice.waits_for:
            blocked[wanted] = choice.waits_for
            self._wait(queued, choice.waits_for)
            return
        claimed = self._queue.claim(queued.number, device=choice.device, began=time.time())
        if claimed is not None:
            what = f"started on {choice.name}" if choice.name else "started"
            self._launch(claimed, Request(train=True, wait=True, queued=queued.key), what)

    def _wait(self, queued: Queued, reason: str) -> None:
        if queued.waits_for != reason:
            self._update(queued, waits_for=reason)

    def _launch(self, queued: Queued, request: Request, what: str) -> None:
        try:
            started = self._starter.start(self._workspace, queued.load_config(), request, see=_seen(queued))
        except ProjectBusy as error:  # somebody was faster
            if not request.resume:
                self._update(queued, state="waiting", device="", began=None, waits_for=error.message)
        except HumigenceError as error:
            self._refuse(queued, error)
        except Exception as error:  # noqa: BLE001  one run's bug must not keep the others waiting
            self._say(traceback.format_exc().rstrip())
            self._refuse(queued, HumigenceError(f"a bug in humigence: {type(error).__name__}: {error}", str(self._queue.log)))
        else:
            self._is_up(queued, started, what)

    def _is_up(self, queued: Queued, started: Started, what: str) -> None:
        name = f"{started.run.project}/{started.run.run_id}"
        if started.standing:
            code = started.exit_code or 0
            message = f"nothing has changed since run {name}: it stands"
            self._end(queued, "gates failed" if code else "finished", code, message, run=name)
            return
        self._workers[queued.number] = started
        self._update(queued, state="running", run=name)
        self._say(f"{_label(queued)}: {what}, run {name}")

    def _refuse(self, queued: Queued, error: HumigenceError) -> None:
        self._end(queued, "failed", error.exit_code, str(error))

    # --------------------------------------------------------------------------------------------------- ending

    def _see_to(self, queued: Queued) -> None:
        """A run that was on: whether it has ended, how, and whether its process has given back what it held."""
        run = queued.folder(self._workspace)
        if run is None or not run.path.is_dir():
            self._end(queued, "failed", EnvironmentFault.exit_code, "its folder is gone: it was deleted or moved away")
            return
        if control.is_alive(run) or self._is_leaving(queued):
            return
        state = event_log.read_state(run)
        status = control.status_of(run, state)
        if status == "crashed":
            self._crashed(queued, run, state)
        elif status != "running" and status != "starting":
            outcome: Outcome = status
            if status == "finished" and state.exit_code == GatesFailed.exit_code:
                outcome = "gates failed"
            code = state.exit_code if state.exit_code is not None else 130 if status == "stopped" else 0
            self._end(queued, outcome, code, _why(state))

    def _is_leaving(self, queued: Queued) -> bool:
        """Whether its process is still there though its run has ended: it may hold memory of the GPU."""
        started = self._workers.get(queued.number)
        if started is None or started.worker is None or started.worker.poll() is not None:
            return False
        began = self._ended_at.setdefault(queued.number, time.monotonic())
        return time.monotonic() - began < _WORKER_END_S

    def _crashed(self, queued: Queued, run: RunFolder, state: RunState) -> None:
        """Its process died: gone on with from its newest checkpoint, once. A machine that was restarted goes on so; a run that
        always dies does not."""
        why = post_mortem.why(run) or "its process died without a word"
        if queued.resumed_after not in (0, state.attempt):
            message = f"{why}\n  humigence pipeline --train --resume {queued.run}"
            self._end(queued, "crashed", EnvironmentFault.exit_code, message)
            return
        if locks.holder(self._workspace.project_lock(run.project)) is not None:
            return
        again = self._update(queued, resumed_after=state.attempt)
        self._say(f"{_label(queued)}: {why}")
        if again is not None:
            request = Request(train=True, resume=True, run=queued.run, wait=True, queued=queued.key)
            self._launch(again, request, "resumed")

    def _end(self, queued: Queued, outcome: Outcome, code: int, message: str, **changes: str) -> None:
        self._workers.pop(queued.number, None)
        self._failed += code != 0
        began = queued.began or time.time()
        self._update(
            queued, state="ended", outcome=outcome, exit_code=code, message=message, ended=time.time(), waits_for="", **changes
        )
        took = f" after {duration(time.time() - began)}" if queued.run else ""
        goes_on = "; the queue goes on" if code else ""
        self._say(f"{_label(queued)}: {outcome}{took}{goes_on}" + (f"\n  {message}" if message else ""))

    def _update(self, queued: Queued, **changes: object) -> Queued | None:
        """None where a person has taken it out meanwhile."""
        try:
            return self._queue.update(queued.number, **changes)
        except HumigenceError:
            return None

    # ---------------------------------------------------------------------------------------------- taking over

    def _take_over(self, queued: Queued) -> None:
        """A start that was decided and not seen through."""
        run = _folder_of(self._workspace, queued)
        if run is None:
            self._update(queued, state="waiting", device="", began=None)
        elif control.is_alive(run) or _has_begun(run):
            self._update(queued, state="running", run=f"{run.project}/{run.run_id}")
        else:
            self._spawn(queued, run)

    def _spawn(self, queued: Queued, run: RunFolder) -> None:
        """In the folder that was made. Its process may be on its way this moment: the locks let one of the two work."""
        try:
            worker = self._starter.spawn_worker(self._workspace, run, _seen(queued))
        except HumigenceError as error:
            if not (control.is_alive(run) or _has_begun(run)):
                self._refuse(queued, error)
                return
            worker = None
        self._is_up(queued, Started(run, worker=worker), "started")


def _seen(queued: Queued) -> str:
    """The one GPU its process is to see; empty for what this one may."""
    return "" if queued.device == CPU else queued.device


def _label(queued: Queued) -> str:
    return f"{queued.number} {queued.project}"


def _why(state: RunState) -> str:
    if state.error is None:
        return ""
    return "\n  ".join(filter(None, (state.error.message, state.error.hint)))


def _folder_of(workspace: Workspace, queued: Queued) -> RunFolder | None:
    """The run that was made for it, found by its key."""
    for run in store.runs_of(workspace, queued.project):
        try:
            request = read_json(run.path / REQUEST_FILE)
        except (OSError, ValueError):
            continue
        if isinstance(request, dict) and request.get("queued") == queued.key:
            return run
    return None


def _has_begun(run: RunFolder) -> bool:
    """Whether its log goes on after it was asked for."""
    try:
        return run.events.stat().st_mtime_ns > (run.path / REQUEST_FILE).stat().st_mtime_ns
    except OSError:
        return False
