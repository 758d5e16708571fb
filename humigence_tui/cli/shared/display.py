"""Shows a run as it goes on, on standard error: lines, and on a terminal below them one that is redrawn."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

from humigence_tui.cli.shared.output import paint, print_message
from humigence_tui.event_text import LineWriter, OutputLine, progress_text
from humigence_tui.terminal.safe_streams import inside
from pipeline.common.text import duration, safe
from pipeline.runs.events import Envelope, Event
from pipeline.runs.state import RunState

_REDRAW_S = 0.25
_BAR_WIDTH = 20
_LONG_S = 3.0  # a phase that takes longer says how long


class Display(Protocol):
    """What `follow` needs of a view of a run."""

    def __enter__(self) -> Display: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def print_lines(self, lines: Iterable[OutputLine]) -> None: ...
    def event(self, envelope: Envelope, state: RunState) -> None: ...
    def tick(self, state: RunState) -> None: ...


def display() -> Display:
    """Live on a terminal, plain lines otherwise."""
    live = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    return LiveDisplay() if live else PlainDisplay()


def shown_in(view: Display, state: RunState) -> Callable[[Event], None]:
    """What shows in `view` the events of work in this process, numbered from 1 and folded into `state`."""
    numbers = itertools.count(1)

    def show(event: Event) -> None:
        envelope = Envelope(next(numbers), time.time(), 1, event)
        state.apply(envelope)
        view.event(envelope, state)

    return show


class PlainDisplay:
    """A line per change."""

    def __init__(self) -> None:
        self._writer = LineWriter(progress=True)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def print_lines(self, lines: Iterable[OutputLine]) -> None:
        for line in lines:
            print_message(*line)

    def event(self, envelope: Envelope, state: RunState) -> None:
        self.print_lines(self._writer.lines(envelope, state))

    def tick(self, state: RunState) -> None:
        """Nothing to redraw; what takes long is said again."""
        self.print_lines(self._writer.meanwhile(time.time(), state))


class LiveDisplay:
    """The same lines scroll by; the last line of the terminal shows what goes on."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=inside(sys.stderr), highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._writer = LineWriter(progress=False)
        self._drawn = 0.0

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, error, trace)

    def print_lines(self, lines: Iterable[OutputLine]) -> None:
        from rich.text import Text

        for line in lines:
            self._console.print(Text.from_ansi(paint(line.text, line.colour, sys.stderr)), soft_wrap=True)

    def event(self, envelope: Envelope, state: RunState) -> None:
        self.print_lines(self._writer.lines(envelope, state))
        self.tick(state)

    def tick(self, state: RunState) -> None:
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_S:
            self._drawn = now
            self._live.update(_status(state, time.time()), refresh=True)


def _status(state: RunState, now: float) -> Any:
    """`▶ train  ━━━━━━────  step 412 of 1,204 …`, never wider than the terminal."""
    from rich.text import Text

    name = state.current
    text = Text(no_wrap=True, overflow="ellipsis")
    if name is None:
        return text
    share = _share(state)
    text.append(f"▶ {name}  ")
    if share is not None:
        filled = round(share * _BAR_WIDTH)
        text.append("━" * filled)
        text.append("─" * (_BAR_WIDTH - filled) + "  ", style="dim")
    progress = progress_text(state, now)
    started = state.steps[name].started
    since = state.steps[name].progress_since
    text.append(safe(progress) if progress or started is None else duration(now - started))
    if progress and since is not None and now - since >= _LONG_S:
        text.append(f"   {duration(now - since)}", style="dim")
    return text


def _share(state: RunState) -> float | None:
    """How much of the step that runs now is done, between 0 and 1; None where that can't be known."""
    name = state.current
    if name == "train" and len(state.train) and state.total_steps and not state.steps["train"].progress:
        return min(1.0, state.step / state.total_steps)
    progress = state.steps[name].progress if name else None
    return min(1.0, progress.done / progress.total) if progress and progress.total else None
