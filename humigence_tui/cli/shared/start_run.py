"""What `pipeline` and `train` share: what was asked for, the start, and following it to its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from humigence_tui.cli.shared import run_report
from humigence_tui.cli.shared.display import PlainDisplay, shown_in
from humigence_tui.cli.shared.follow import follow_started
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, open_project, switch, workspace
from humigence_tui.cli.shared.output import print_message
from pipeline.common.errors import BadInput, Interrupted
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runner.launch import Started
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import Workspace
from pipeline.runs.request import Request
from pipeline.runs.state import RunState


def chosen_config(config_path: str | None, resume: bool, run: str | None) -> tuple[Workspace, Config, str | None]:
    """The workspace, the config in force and the run to resume by its whole name.

    A run that is named is resumed with the config it was started with.

    Raises:
        BadInput: a run is named without `--resume`, or it belongs to another project than the config.
    """
    if run is None:
        return *open_project(config_path or DEFAULT_CONFIG), None
    if not resume:
        raise BadInput(f"{run}: a run is named, but not what to do with it", f"--resume {run} goes on with it")
    here = workspace()
    found = store.find_run(here, run)
    config = found.load_config()
    if config_path is not None and open_project(config_path)[1].project != config.project:
        raise BadInput(f"run {run_report.run_name(found)} is not of the project in {config_path}", "leave out --config")
    return here, config, run_report.run_name(found)


def validation_only() -> bool:
    """Whether `VALIDATION_ONLY` is on."""
    return bool(switch("VALIDATION_ONLY"))


def run_to_end(
    here: Workspace, config: Config, request: Request, *, foreground: bool, as_json: bool, config_path: str | None
) -> int:
    """Start what is asked for, follow it, print how it ended; returns its exit code."""
    path = config_path or DEFAULT_CONFIG
    if foreground:
        started = _in_foreground(here, config, request)
        if not started.standing:
            state = event_log.read_state(started.run)
            run_report.print_end(started.run, state, data_as_json=as_json, config_path=path)
            return run_report.exit_code(started.run, state)
    else:
        started = launch.start(here, config, request)
    if started.standing:
        return _standing(started, as_json, path)
    code = follow_started(started.run, after_seq=started.after_seq, as_json=as_json, config_path=path)
    _wait_for_worker(started)
    return code


def _wait_for_worker(started: Started) -> None:
    """What is started next finds the memory that the run had; Ctrl-C does not wait for it."""
    try:
        pid = launch.outlasts(started)
    except KeyboardInterrupt:
        pid = started.worker.pid if started.worker else None
    if pid is not None:
        print_message(f"the run has ended, its process ({pid}) has not: until it does, it may hold memory of the GPU")


def _standing(started: Started, as_json: bool, config_path: str) -> int:
    print_message(f"everything is unchanged since run {run_report.run_name(started.run)}: its report stands")
    state = event_log.read_state(started.run)
    run_report.print_end(started.run, state, data_as_json=as_json, config_path=config_path)
    return started.exit_code or run_report.exit_code(started.run, state)


def _in_foreground(here: Workspace, config: Config, request: Request) -> Started:
    with _interrupts_ask_to_stop(here, config.project):
        return launch.in_foreground(here, config, request, shown_in(PlainDisplay(), RunState()))


@contextmanager
def _interrupts_ask_to_stop(here: Workspace, project: str) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that is gone ask the run in this process to save and stop; the second aborts it."""
    pressed = 0

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        run = next((run for run in store.runs_of(here, project) if control.is_alive(run)), None)
        if run is None:
            raise KeyboardInterrupt
        if pressed > 1 or control.stop_requested(run) == "abort":  # who asks for that from elsewhere sends a signal, too
            control.request_stop(run, "abort")
            raise Interrupted("aborted")
        control.request_stop(run, "save")
        print_message("stopping after this step, then saving; Ctrl-C again aborts")

    asking = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        asking.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in asking}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
