"""`python -m pipeline.worker RUN_FOLDER`: the process a run lives in.

In its own session, its output going to the run's `output.log`. Takes its locks before anything heavy is imported, so that a
second start is refused at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline import events as ev
from pipeline import locks
from pipeline.errors import EnvironmentFault, HumigenceError, Stopped
from pipeline.events import Event
from pipeline.files import read_json
from pipeline.gpu import Device, choose_device
from pipeline.runner import Request, StopSwitch, execute
from pipeline.runs import EventWriter, RunFolder, Workspace, clear_stop_request, stop_requested

REQUEST_FILE = "request.json"


def main(arguments: list[str]) -> int:
    run = RunFolder(Path(arguments[0]).resolve())
    request = Request(**read_json(run.path / REQUEST_FILE))
    try:
        return run_held(run, request, own_process=True)
    except HumigenceError as error:
        print(error, file=sys.stderr)  # noqa: T201  goes to output.log
        return error.exit_code


def run_held(run: RunFolder, request: Request, *, also: Callable[[Event], None] | None = None, own_process: bool = False) -> int:
    """Take the locks, run the steps, give the locks back; returns the exit code.

    Args:
        also: sees each event after it is in the log.
        own_process: this process is the run's alone: signals become stop requests.

    Raises:
        EnvironmentFault: another process works in this project.
    """
    workspace = Workspace(run.path.parent.parent.parent)
    project_lock = _taken(workspace.project_lock(run.project), f"project {run.project!r}")
    with project_lock, _taken(run.lock, f"run {run.run_id}"):
        clear_stop_request(run)
        writer = EventWriter(run)

        def emit(event: Event) -> None:
            writer.emit(event)
            if also:
                also(event)

        switch = StopSwitch(run, emit)
        if own_process:
            _listen_to_signals(run, switch)
        try:
            return _on_device(run, request, writer, switch, emit)
        finally:
            writer.close()


def _taken(path: Path, what: str) -> locks.FileLock:
    lock = locks.try_lock(path)
    if lock is None:
        raise EnvironmentFault(
            f"{what} is busy: process {locks.holder(path) or '?'} works in it",
            "humigence runs follow watches it; humigence runs stop ends it; --wait queues behind it",
        )
    return lock


def _on_device(run: RunFolder, request: Request, writer: EventWriter, switch: StopSwitch, emit: Callable[[Event], None]) -> int:
    """`execute` with the run's GPU made the only visible one and locked against other projects."""
    try:
        device = choose_device(run.load_config().compute.gpu)
        lock = _gpu_lock(device, request, switch, emit) if device.kind == "cuda" and request.train else None
    except HumigenceError as error:
        emit(ev.RunStopped("abort", None) if isinstance(error, Stopped) else _failed(error))
        return error.exit_code
    _prepare_environment(device)
    try:
        return execute(run, request, writer, switch, emit)
    finally:
        if lock:
            lock.release()


def _failed(error: HumigenceError) -> ev.RunFailed:
    return ev.RunFailed(error.message, error.hint, error.exit_code)


def _gpu_lock(device: Device, request: Request, switch: StopSwitch, emit: Callable[[Event], None]) -> locks.FileLock:
    """One training at a time on a card, whatever project it belongs to."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humigence" / "locks"
    path = folder / f"{device.uuid}.lock"
    lock = locks.try_lock(path)
    if lock:
        return lock
    pid = locks.holder(path) or "?"
    if not request.wait:
        raise EnvironmentFault(
            f"{device.name} ({device.uuid}) is busy: process {pid} trains on it",
            "--wait queues behind it; compute.gpu chooses another one",
        )
    emit(ev.Note(f"waiting for {device.name}: process {pid} trains on it"))
    lock = locks.wait_lock(path, give_up=lambda: switch.asked() is not None)
    if lock is None:
        raise Stopped("stopped while waiting for the GPU")
    return lock


def _prepare_environment(device: Device) -> None:
    """Set before torch is imported: it reads them once."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid if device.kind == "cuda" else ""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _listen_to_signals(run: RunFolder, switch: StopSwitch) -> None:
    """First signal: save and stop at the end of the optimizer step. Second, or an abort in the folder: stop now."""
    seen = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen > 1 or stop_requested(run) == "abort":
            switch.signalled("abort")
            raise Stopped("aborted")
        switch.signalled("save")

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
