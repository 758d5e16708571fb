"""Watching a run until it ends: its log folded and shown, the end reported, its exit code handed on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from humigence_tui.cli.shared import run_report
from humigence_tui.cli.shared.display import Display, display
from humigence_tui.cli.shared.options import DEFAULT_CONFIG
from humigence_tui.cli.shared.output import print_message, print_next_commands
from humigence_tui.event_text import OutputLine, standing_lines
from pipeline.common.errors import EXIT_OK
from pipeline.runs import control, event_log
from pipeline.runs.events import StopMode
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState


class Watched(Protocol):
    """What is asked between two looks at the log."""

    def __call__(self, view: Display) -> None: ...


def follow_started(run: RunFolder, *, after_seq: int, as_json: bool, config_path: str = DEFAULT_CONFIG) -> int:
    """Follow the run this command started; Ctrl-C asks it to save and stop, a second one aborts it.

    Args:
        after_seq: the log's newest event when the start was asked for; what it holds of earlier attempts is not shown again.
    """
    with _counting_interrupts(run) as interrupts:
        state = _watch(run, after_seq, interrupts)
    run_report.print_end(run, state, data_as_json=as_json, config_path=config_path)
    return run_report.exit_code(run, state)


def follow_elsewhere(run: RunFolder, *, as_json: bool) -> int:
    """Follow a run that lives anyway: Ctrl-C only stops looking. One that has ended is reported at once."""
    try:
        state = _watch(run, event_log.newest_seq(run), lambda _view: None, catch_up=True)
    except KeyboardInterrupt:
        print_message()
        print_message("the run goes on")
        print_next_commands(
            f"humigence runs follow {run_report.run_name(run)}", f"humigence runs stop {run_report.run_name(run)}"
        )
        return EXIT_OK
    run_report.print_end(run, state, data_as_json=as_json)
    return run_report.exit_code(run, state)


def _watch(run: RunFolder, after_seq: int, watched: Watched, *, catch_up: bool = False) -> RunState:
    """Fold and show the log until the run ends or its process is gone."""
    state = RunState()
    with display() as view:
        view.print_lines([OutputLine(f"run {run_report.run_name(run)}")])
        caught_up = not catch_up
        for batch in event_log.follow(run):
            for envelope in batch:
                state.apply(envelope)
                if envelope.seq > after_seq:
                    view.event(envelope, state)
            if not caught_up and (not batch or batch[-1].seq > after_seq):
                caught_up = True
                view.print_lines(standing_lines(state))
            view.tick(state)
            watched(view)
    return state


@contextmanager
def _counting_interrupts(run: RunFolder) -> Iterator[Watched]:
    """Ctrl-C no longer raises: it is counted, and answered between two looks at the log."""
    pressed: list[int] = []
    answered = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)

    def answer(view: Display) -> None:
        nonlocal answered
        while answered < min(2, len(pressed)):
            answered += 1
            view.print_lines([_asked_to_stop(run, "save" if answered == 1 else "abort")])

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield answer
    finally:
        signal.signal(signal.SIGINT, before)


def _asked_to_stop(run: RunFolder, mode: StopMode) -> OutputLine:
    control.request_stop(run, mode)
    if mode == "abort":
        return OutputLine("aborting; what was saved before stays")
    return OutputLine("stopping after this step, then saving; Ctrl-C again aborts")
