"""`RunState`: what a run's events say, folded. Same events, same state: no files, no clock.

What a person is shown is the fold and whether the run's lock is held (`runs.status_of`): a fold cannot know that its writer died.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from pipeline.runs import events as ev
from pipeline.runs.curve import Curve
from pipeline.runs.events import STEP_NAMES, Envelope, Event, StepName, StepOutcome

Status = Literal["starting", "running", "finished", "stopped", "failed", "crashed"]
_NOTES_KEPT = 1000


@dataclass
class StepState:
    """One of the eight steps. `outcome` is None before it starts and while it runs; `started` is None before."""

    started: float | None = None
    outcome: StepOutcome | None = None
    seconds: float = 0.0
    summary: str = ""
    progress: ev.StepProgress | None = None  # the phase it is in; in training none between two evaluations
    progress_since: float | None = None  # when that phase began

    @property
    def running(self) -> bool:
        return self.started is not None and self.outcome is None


def _train_curve() -> Curve:
    return Curve("step", "loss", "lr", "grad_norm", "tokens", "trained_tokens", "seconds", "counted", "time")


def left_to_do(training: bool, outcomes: Mapping[StepName, StepOutcome | None]) -> tuple[StepName, ...]:
    """The steps of a run that trains which are not done, in their order."""
    return tuple(name for name, outcome in outcomes.items() if outcome not in ("done", "unchanged")) if training else ()


@dataclass
class RunState:
    """Everything a view of a run shows. Times are seconds since 1970 UTC, as the events have them."""

    status: Status = "starting"
    project: str = ""
    model: str = ""
    precision_mode: str = ""
    device: str = ""
    training: bool = False
    pid: int = 0
    attempt: int = 0
    last_seq: int = 0
    started: float | None = None  # of the first attempt
    attempt_started: float | None = None
    last_event: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    error: ev.RunFailed | None = None
    stopping: ev.StopMode | None = None
    paused: str = ""  # what the run waits for
    saved_step: int | None = None
    steps: dict[StepName, StepState] = field(default_factory=lambda: {name: StepState() for name in STEP_NAMES})
    plan: ev.PlanMade | None = None
    layers_proved: ev.LayersProved | None = None
    train: Curve = field(default_factory=_train_curve)
    held_out: Curve = field(default_factory=lambda: Curve("step", "loss"))
    attempt_points: int = 0  # steps of the curve that earlier attempts made
    attempt_evaluations: int = 0
    total_steps: int = 0
    samples: list[ev.Sampled] = field(default_factory=list)
    checkpoints: list[ev.CheckpointSaved] = field(default_factory=list)
    memory_ran_out: list[ev.MemoryRanOut] = field(default_factory=list)
    early_stopped: ev.EarlyStopped | None = None
    diverged: ev.TrainingDiverged | None = None
    train_ended: ev.TrainEnded | None = None
    peak_memory_bytes: int = 0
    held_out_reports: list[ev.HeldOut] = field(default_factory=list)
    answers: list[ev.Answered] = field(default_factory=list)
    suites: list[ev.SuiteMeasured] = field(default_factory=list)
    packed: list[ev.Packed] = field(default_factory=list)
    gates: list[ev.GateJudged] = field(default_factory=list)
    notes: deque[tuple[float, ev.Note]] = field(default_factory=lambda: deque(maxlen=_NOTES_KEPT))

    # ------------------------------------------------------------------------------- what views ask for

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.train["step"][-1]) if len(self.train) else 0

    @property
    def train_loss(self) -> float | None:
        return self.train["loss"][-1] if len(self.train) else None

    @property
    def val_loss(self) -> float | None:
        """The newest held-out loss."""
        return self.held_out["loss"][-1] if len(self.held_out) else None

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss) of the lowest held-out loss that is a number, the earlier of equals."""
        finite = [(loss, index) for index, loss in enumerate(self.held_out["loss"]) if math.isfinite(loss)]
        if not finite:
            return None
        loss, index = min(finite)
        return int(self.held_out["step"][index]), loss

    @property
    def memory_limit(self) -> ev.MemoryRanOut | None:
        """How training goes on since its memory ran out; None while everything fits."""
        limits = (event for event in reversed(self.memory_ran_out) if event.place == "training" and event.answer != "done again")
        return next(limits, None)

    @property
    def current(self) -> StepName | None:
        """The step that runs now."""
        return next((name for name, step in self.steps.items() if step.running), None)

    def left_to_do(self) -> tuple[StepName, ...]:
        """The steps of a run that trains which are not done."""
        return left_to_do(self.training, {name: step.outcome for name, step in self.steps.items()})

    def tokens_per_second(self, last: int = 50) -> float | None:
        """Real tokens a second of the newest `last` counted steps; None before the first."""
        # From the end: asked four times a second of a run that may have 100,000 steps.
        counted = self.train["counted"]
        rows = list(islice((i for i in range(len(counted) - 1, -1, -1) if counted[i]), last))
        seconds = sum(self.train["seconds"][i] for i in rows)
        return sum(self.train["tokens"][i] for i in rows) / seconds if seconds > 0 else None

    def end_phase(self, step: StepName) -> None:
        """Whatever it was doing, it has gone on."""
        self.steps[step].progress = self.steps[step].progress_since = None

    # ---------------------------------------------------------------------------------------- the fold

    def apply(self, envelope: Envelope) -> None:
        """Fold one event in. Events already folded (by their number) change nothing."""
        if envelope.seq <= self.last_seq:
            return
        self.last_seq = envelope.seq
        self.last_event = envelope.time
        handler = _HANDLERS.get(type(envelope.event))
        if handler:
            handler(self, envelope.event, envelope)


def _attempt_started(state: RunState, event: ev.AttemptStarted, envelope: Envelope) -> None:
    state.status = "running"
    state.project, state.model, state.precision_mode = event.project, event.model, event.precision_mode
    state.device, state.training, state.pid = event.device, event.training, event.pid
    state.attempt = envelope.attempt
    state.started = state.started if state.started is not None else envelope.time
    state.attempt_started = envelope.time
    state.ended = state.exit_code = state.error = state.stopping = None
    state.paused = ""
    state.attempt_points, state.attempt_evaluations = len(state.train), len(state.held_out)
    for step in state.steps.values():
        if step.running:  # the attempt before died in it
            step.started = None


def _ended(state: RunState, status: Status, exit_code: int, time: float) -> None:
    state.status, state.exit_code, state.ended = status, exit_code, time
    state.paused = ""


def _run_finished(state: RunState, event: ev.RunFinished, envelope: Envelope) -> None:
    _ended(state, "finished", event.exit_code, envelope.time)


def _run_failed(state: RunState, event: ev.RunFailed, envelope: Envelope) -> None:
    _ended(state, "failed", event.exit_code, envelope.time)
    state.error = event


def _run_stopped(state: RunState, event: ev.RunStopped, envelope: Envelope) -> None:
    _ended(state, "stopped", 130, envelope.time)
    state.saved_step = event.saved_step


def _stop_acknowledged(state: RunState, event: ev.StopAcknowledged, _: Envelope) -> None:
    state.stopping = event.mode


def _paused(state: RunState, event: ev.Paused, _: Envelope) -> None:
    state.paused = event.reason


def _continued(state: RunState, event: ev.Continued, _: Envelope) -> None:
    state.paused = ""


def _note(state: RunState, event: ev.Note, envelope: Envelope) -> None:
    state.notes.append((envelope.time, event))


def _step_started(state: RunState, event: ev.StepStarted, envelope: Envelope) -> None:
    state.steps[event.step] = StepState(started=envelope.time)
    if event.step == "evaluate":
        state.held_out_reports, state.answers, state.suites = [], [], []
    elif event.step == "pack":
        state.packed = []
    elif event.step == "gates":
        state.gates = []


def _step_progress(state: RunState, event: ev.StepProgress, envelope: Envelope) -> None:
    step = state.steps[event.step]
    if step.progress is None or step.progress.what != event.what:
        step.progress_since = envelope.time
    step.progress = event


def _step_finished(state: RunState, event: ev.StepFinished, envelope: Envelope) -> None:
    step = state.steps[event.step]
    step.started = step.started if step.started is not None else envelope.time
    step.outcome, step.seconds, step.summary = event.outcome, event.seconds, event.summary
    step.progress = step.progress_since = None


def _plan_made(state: RunState, event: ev.PlanMade, _: Envelope) -> None:
    state.plan = event
    state.total_steps = event.total_steps


def _layers_proved(state: RunState, event: ev.LayersProved, _: Envelope) -> None:
    state.layers_proved = event


def _resumed(state: RunState, event: ev.Resumed, _: Envelope) -> None:
    state.train.cut_after(event.from_step)
    state.held_out.cut_after(event.from_step)
    state.attempt_points, state.attempt_evaluations = len(state.train), len(state.held_out)
    state.samples = [sample for sample in state.samples if sample.step <= event.from_step]
    state.checkpoints = [saved for saved in state.checkpoints if saved.step <= event.from_step]
    state.memory_ran_out = [short for short in state.memory_ran_out if short.step <= event.from_step]
    state.early_stopped = state.diverged = state.train_ended = None
    state.saved_step = event.from_step or None


def _train_step(state: RunState, event: ev.TrainStep, envelope: Envelope) -> None:
    state.train.append(
        step=event.step, loss=event.loss, lr=event.lr, grad_norm=event.grad_norm, tokens=event.tokens,
        trained_tokens=event.trained_tokens, seconds=event.seconds, counted=event.counted,
        time=envelope.time,
    )  # fmt: skip
    state.total_steps = event.total_steps
    state.peak_memory_bytes = max(state.peak_memory_bytes, event.peak_memory_bytes)
    state.end_phase("train")


def _evaluated(state: RunState, event: ev.Evaluated, _: Envelope) -> None:
    state.held_out.append(step=event.step, loss=event.loss)


def _sampled(state: RunState, event: ev.Sampled, _: Envelope) -> None:
    state.samples.append(event)


def _checkpoint_saved(state: RunState, event: ev.CheckpointSaved, _: Envelope) -> None:
    state.checkpoints.append(event)
    state.saved_step = event.step


def _memory_ran_out(state: RunState, event: ev.MemoryRanOut, _: Envelope) -> None:
    state.memory_ran_out.append(event)


def _early_stopped(state: RunState, event: ev.EarlyStopped, _: Envelope) -> None:
    state.early_stopped = event


def _diverged(state: RunState, event: ev.TrainingDiverged, _: Envelope) -> None:
    state.diverged = event


def _train_ended(state: RunState, event: ev.TrainEnded, _: Envelope) -> None:
    state.train_ended = event
    state.peak_memory_bytes = max(state.peak_memory_bytes, event.peak_memory_bytes)


def _held_out(state: RunState, event: ev.HeldOut, _: Envelope) -> None:
    state.held_out_reports.append(event)


def _answered(state: RunState, event: ev.Answered, _: Envelope) -> None:
    state.answers.append(event)


def _suite_measured(state: RunState, event: ev.SuiteMeasured, _: Envelope) -> None:
    state.suites = [each for each in state.suites if each.suite != event.suite] + [event]


def _packed(state: RunState, event: ev.Packed, _: Envelope) -> None:
    state.packed.append(event)


def _gate_judged(state: RunState, event: ev.GateJudged, _: Envelope) -> None:
    state.gates = [gate for gate in state.gates if gate.gate != event.gate] + [event]


_HANDLERS: dict[type[Event], Callable[[RunState, Any, Envelope], None]] = {
    ev.AttemptStarted: _attempt_started,
    ev.RunFinished: _run_finished,
    ev.RunFailed: _run_failed,
    ev.RunStopped: _run_stopped,
    ev.StopAcknowledged: _stop_acknowledged,
    ev.Paused: _paused,
    ev.Continued: _continued,
    ev.Note: _note,
    ev.StepStarted: _step_started,
    ev.StepProgress: _step_progress,
    ev.StepFinished: _step_finished,
    ev.PlanMade: _plan_made,
    ev.LayersProved: _layers_proved,
    ev.Resumed: _resumed,
    ev.TrainStep: _train_step,
    ev.Evaluated: _evaluated,
    ev.Sampled: _sampled,
    ev.CheckpointSaved: _checkpoint_saved,
    ev.MemoryRanOut: _memory_ran_out,
    ev.EarlyStopped: _early_stopped,
    ev.TrainingDiverged: _diverged,
    ev.TrainEnded: _train_ended,
    ev.HeldOut: _held_out,
    ev.Answered: _answered,
    ev.SuiteMeasured: _suite_measured,
    ev.Packed: _packed,
    ev.GateJudged: _gate_judged,
}
