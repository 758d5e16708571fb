"""`python -m pipeline.runner.worker RUN_FOLDER`: the process a run lives in.

In its own session, its output going to the run's `output.log`. Takes its locks before anything heavy is imported, so that a
second start is refused at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

from pipeline.common.errors import EnvironmentFault, HumigenceError, Interrupted
from pipeline.common.files import read_json
from pipeline.common.redact import hide_in
from pipeline.runner.runner import StopSwitch, execute
from pipeline.runs.control import clear_stop_request, stop_requested
from pipeline.runs.event_log import RunLog
from pipeline.runs.events import Event
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.request import Request
from pipeline.system import faults as machine_faults
from pipeline.system import locks

REQUEST_FILE = "request.json"


def main(arguments: list[str]) -> int:
    hide_in("stdout", "stderr")
    # Links are not followed: the workspace is told from the path, and `runs` may be a link to another disk.
    run = RunFolder(Path(arguments[0]).absolute())
    request = Request(**read_json(run.path / REQUEST_FILE))
    try:
        return run_held(run, request, own_process=True)
    except HumigenceError as error:
        return _said(error)
    except OSError as error:
        fault = machine_faults.as_fault(error, run.path)
        if fault is None:
            raise
        return _said(fault)


def _said(error: HumigenceError) -> int:
    """The exit code; the words are in output.log, where that can still be written."""
    with suppress(OSError):
        print(error, file=sys.stderr)  # noqa: T201
    return error.exit_code


def run_held(run: RunFolder, request: Request, *, also: Callable[[Event], None] | None = None, own_process: bool = False) -> int:
    """Take the locks, run the steps, give the locks back; returns the exit code.

    Args:
        also: sees each event after it is in the log.
        own_process: this process is the run's alone: signals become stop requests.

    Raises:
        EnvironmentFault: another process works in this project.
    """
    with writing(run, also) as log:
        clear_stop_request(run)
        switch = StopSwitch(run, log.emit)
        log.stop = switch.wanted
        if own_process:
            _listen_to_signals(run, switch)
        return execute(run, request, switch, log.emit)


@contextmanager
def writing(run: RunFolder, also: Callable[[Event], None] | None = None) -> Iterator[RunLog]:
    """The project and the run held against everybody else, the run's log open: what is emitted goes there, then to `also`.

    Raises:
        EnvironmentFault: another process works in this project.
    """
    workspace = Workspace(run.path.parent.parent.parent)
    with (
        _taken(workspace.project_lock(run.project), f"project {run.project!r}"),
        _taken(run.lock, f"run {run.run_id}"),
        closing(RunLog(run, also)) as log,
    ):
        yield log


def _taken(path: Path, what: str) -> locks.FileLock:
    lock = locks.try_lock(path)
    if lock is None:
        raise EnvironmentFault(
            f"{what} is busy: process {locks.holder(path) or '?'} works in it",
            "humigence runs follow watches it; humigence runs stop ends it; --wait queues behind it",
        )
    return lock


def _listen_to_signals(run: RunFolder, switch: StopSwitch) -> None:
    """First signal: save and stop at the end of the optimizer step. Second, or an abort in the folder: stop now."""
    seen = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1 or stop_requested(run) == "abort":
            switch.signalled("abort")
            raise Interrupted("aborted")
        switch.signalled("save")

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
