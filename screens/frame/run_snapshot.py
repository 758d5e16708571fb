"""What screens show of runs, as frozen values: made in a worker thread, read by widgets.

A `Snapshot` shares nothing that changes with the fold it was made of: its columns end where the fold ended then, and cannot be
written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.runs import events as ev
from pipeline.runs.control import is_alive
from pipeline.runs.events import StepName, StepOutcome
from pipeline.runs.fold_cache import Summary, busy_seconds
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState, Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[np.float64]

_SAMPLES_SHOWN = 60
Level = Literal["info", "good", "warning", "error", "dim", "output"]


@dataclass(frozen=True)
class RunRow:
    """One run in the list of runs.

    Attributes:
        status: what a person is shown: `crashed` where the process is gone.
        disk_bytes: what its folder takes; None until it was measured.
        is_read: false while only its name is known, and whether it is on.
    """

    run: RunFolder
    status: Status
    summary: Summary
    disk_bytes: int | None = None
    is_read: bool = True

    @property
    def live(self) -> bool:
        return self.status in ("starting", "running")

    def still_alive(self) -> bool:
        """Asked now, not when the list was made."""
        return is_alive(self.run)

    @property
    def resumable(self) -> bool:
        return not self.live and self.status != "finished" and self.summary.training and not self.summary.diverged


@dataclass(frozen=True)
class LogLine:
    """A line of the log pane, safe to show. `time` is None for what libraries print."""

    time: float | None
    text: str
    level: Level = "info"


@dataclass(frozen=True)
class StepView:
    name: StepName
    outcome: StepOutcome | None
    running: bool
    started: float | None
    seconds: float
    summary: str
    progress: ev.StepProgress | None  # the phase it is in
    progress_since: float | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """Curves of training, one value an optimizer step; read only. `held_*` are of the evaluations."""

    step: Column
    loss: Column
    lr: Column
    grad_norm: Column
    held_step: Column
    held_loss: Column


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A followed run at one moment. `now` is when it was made, in seconds since 1970."""

    run: RunFolder
    now: float
    status: Status
    whole: bool  # false while an old log is still being read
    state: Summary
    pid: int
    attempt: int
    attempt_started: float | None
    steps: tuple[StepView, ...]
    plan: ev.PlanMade | None
    layers_proved: ev.LayersProved | None
    lr: float | None
    grad_norm: float | None
    columns: Columns
    peak_memory_bytes: int
    memory_limit: ev.MemoryRanOut | None
    samples: tuple[ev.Sampled, ...]
    stopping: ev.StopMode | None
    paused: str
    error: ev.RunFailed | None
    early_stopped: ev.EarlyStopped | None
    diverged: ev.TrainingDiverged | None
    train_ended: ev.TrainEnded | None
    held_out_reports: tuple[ev.HeldOut, ...]
    answers: tuple[ev.Answered, ...]
    suites: tuple[ev.SuiteMeasured, ...]
    packed: tuple[ev.Packed, ...]
    gates: tuple[ev.GateJudged, ...]
    log: tuple[LogLine, ...]
    output: tuple[LogLine, ...]
    gone: str = ""  # why a crashed run's process ended, where the machine reports it

    @property
    def live(self) -> bool:
        return self.status in ("starting", "running")

    @property
    def current(self) -> StepView | None:
        return next((step for step in self.steps if step.running), None)

    @property
    def has_results(self) -> bool:
        return bool(self.gates or self.answers or self.held_out_reports or self.suites or self.packed)

    @property
    def resumable(self) -> bool:
        """Whether it ended before its training was complete, and going on could help."""
        return not self.live and self.status != "finished" and self.state.training and not self.diverged


class Freezer:
    """Makes snapshots of one growing fold; while no point has come the columns are the same ones."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._columns: Columns | None = None
        self._version: tuple[int, ...] = ()

    def freeze(
        self, state: RunState, summary: Summary, status: Status, now: float, log: Sequence[LogLine], output: Sequence[LogLine],
        *, whole: bool = True, gone: str = "", asked: ev.StopMode | None = None,
    ) -> Snapshot:  # fmt: skip
        """The snapshot of `state` at `now`; `asked` is the request to stop that lies in the run folder, answered or not."""
        train = state.train
        return Snapshot(
            run=self._run, now=now, status=status, whole=whole, state=summary, pid=state.pid, attempt=state.attempt,
            attempt_started=state.attempt_started, steps=_steps(state), plan=state.plan,
            layers_proved=state.layers_proved, lr=_last(train["lr"]),
            grad_norm=_last(train["grad_norm"]), columns=self._frozen_columns(state),
            peak_memory_bytes=state.peak_memory_bytes, memory_limit=state.memory_limit,
            samples=tuple(state.samples[-_SAMPLES_SHOWN:]), stopping=_stopping(state, asked), paused=state.paused,
            error=state.error, early_stopped=state.early_stopped, diverged=state.diverged, train_ended=state.train_ended,
            held_out_reports=tuple(state.held_out_reports), answers=tuple(state.answers), suites=tuple(state.suites),
            packed=tuple(state.packed),
            gates=tuple(state.gates), log=tuple(log), output=tuple(output), gone=gone,
        )  # fmt: skip

    def _frozen_columns(self, state: RunState) -> Columns:
        version = (len(state.train), len(state.held_out), state.train.cuts, state.held_out.cuts)
        if self._columns is None or version != self._version:
            self._columns, self._version = columns_of(state), version
        return self._columns


def _stopping(state: RunState, asked: ev.StopMode | None) -> ev.StopMode | None:
    return "abort" if "abort" in (state.stopping, asked) else state.stopping or asked


def _last(column: Sequence[float]) -> float | None:
    return column[-1] if len(column) else None


def columns_of(state: RunState) -> Columns:
    """The curves a chart draws, where the fold has them: nothing is copied."""
    import numpy as np

    train, held_out = state.train, state.held_out
    return Columns(
        step=np.asarray(train["step"]), loss=np.asarray(train["loss"]), lr=np.asarray(train["lr"]),
        grad_norm=np.asarray(train["grad_norm"]), held_step=np.asarray(held_out["step"]), held_loss=np.asarray(held_out["loss"]),
    )  # fmt: skip


def _steps(state: RunState) -> tuple[StepView, ...]:
    return tuple(
        StepView(name, step.outcome, step.running, step.started, step.seconds, step.summary, step.progress, step.progress_since)
        for name, step in state.steps.items()
    )


def busy_now(snapshot: Snapshot) -> float:
    """Seconds of work so far, the running step's included."""
    current = snapshot.current
    if not snapshot.live or current is None or current.started is None:
        return snapshot.state.busy_seconds
    return snapshot.state.busy_seconds + (0.0 if current.name == "train" else max(0.0, snapshot.now - current.started))


__all__ = ["Columns", "Freezer", "LogLine", "RunRow", "Snapshot", "StepView", "busy_now", "busy_seconds", "columns_of"]
