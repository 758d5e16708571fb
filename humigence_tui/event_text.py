"""One event of a run as lines for a person. No terminal, no clock: the times are those of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from humigence_tui.cli.shared.output import Colour
from pipeline.common.text import amount, counted, duration, loss, size
from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, StepOutcome
from pipeline.runs.forecast import expect
from pipeline.runs.headline import suite_title, suite_value
from pipeline.runs.state import RunState

MARKS: dict[StepOutcome, str] = {"done": "✔", "unchanged": "✔", "skipped": "·", "failed": "✘", "stopped": "·"}
_OUTCOME_COLOURS: dict[StepOutcome, Colour] = {"done": "green", "unchanged": "green", "failed": "red"}
_NAME_WIDTH = max(map(len, ev.STEP_NAMES))
_TIME_WIDTH = len("13 m 42 s")
# Without a terminal that can be redrawn: a line about something that goes on at most this often.
_EVERY_S = 10.0
_SILENT_S = 30.0


class OutputLine(NamedTuple):
    text: str
    colour: Colour | None = None


class LineWriter:
    """Turns events into lines; remembers only when it last wrote one of progress."""

    def __init__(self, *, progress: bool) -> None:
        """`progress`: report now and then how far a step is; a live display does that by itself."""
        self._progress = progress
        self._progress_time = 0.0

    def lines(self, envelope: Envelope, state: RunState) -> list[OutputLine]:
        """The lines of an event that `state` has folded already."""
        event = envelope.event
        if isinstance(event, (ev.TrainStep, ev.StepProgress)):
            return self._now_and_then(envelope.time, state)
        if isinstance(event, ev.StepStarted):
            self._progress_time = envelope.time
            return [OutputLine(f"▶ {event.step}")] if self._progress else []
        formatter = _FORMATTERS.get(type(event))
        return formatter(event) if formatter else []

    def meanwhile(self, now: float, state: RunState) -> list[OutputLine]:
        """That something goes on still, where nothing was written for long: a minute without a word looks like a hang."""
        name = state.current
        if not self._progress or name is None or now - self._progress_time < _SILENT_S:
            return []
        self._progress_time = now
        step = state.steps[name]
        since = step.progress_since or (state.train["time"][-1] if name == "train" and len(state.train) else step.started)
        what = progress_text(state) or name
        return [OutputLine(f"  {what}   for {duration(now - since)}" if since else f"  {what}", "dim")]

    def _now_and_then(self, time: float, state: RunState) -> list[OutputLine]:
        if not self._progress or time - self._progress_time < _EVERY_S:
            return []
        self._progress_time = time
        where = progress_text(state)
        return [OutputLine(f"  {where}", "dim")] if where else []


def outcome_line(step: str, outcome: StepOutcome, seconds: float, summary: str) -> OutputLine:
    """`✔ preprocess     6.3 s   9 train, 1 val, 2 test rows`."""
    took = (
        duration(seconds) if outcome in ("done", "failed", "stopped") else ("unchanged" if outcome == "unchanged" else "skipped")
    )
    text = f"{MARKS[outcome]} {step:<{_NAME_WIDTH}}  {took:>{_TIME_WIDTH}}   {summary}"
    return OutputLine(text.rstrip(), _OUTCOME_COLOURS.get(outcome))


def standing_lines(state: RunState) -> list[OutputLine]:
    """The steps that have ended, for somebody who comes late."""
    ended = ((name, step) for name, step in state.steps.items() if step.outcome)
    return [outcome_line(name, step.outcome or "done", step.seconds, step.summary) for name, step in ended]


def progress_text(state: RunState, now: float | None = None) -> str:
    """How far the step that runs now is; empty when it has reported none.

    Args:
        now: seconds since 1970; None for when the newest event was written.
    """
    name = state.current
    if name is None:
        return ""
    progress = state.steps[name].progress
    if name == "train" and len(state.train) and progress is None:
        return _training_progress(state, now if now is not None else state.last_event or 0.0)
    at = f"step {counted(state.step)} of {counted(state.total_steps)}   " if name == "train" and len(state.train) else ""
    return at + step_progress_text(progress) if progress else ""


def _training_progress(state: RunState, now: float) -> str:
    total, done = state.total_steps, state.step
    parts = [f"step {done:>{len(counted(total))},} of {counted(total)}"]
    if total:
        parts.append(f"{100 * done / total:>3.0f} %")
    parts.append(f"loss {loss(state.train_loss)}")
    rate, expected = state.tokens_per_second(), expect(state)
    if rate is not None:
        parts.append(f"{counted(rate):>7} tok/s")
    if expected is not None:
        parts += filter(None, (expected.left_text(now), expected.done_text(now), expected.late_text(now)))
    return "   ".join(parts)


def step_progress_text(progress: ev.StepProgress) -> str:
    """`evaluating  120 of 256 held-out rows`; a phase with nothing to count is its words alone."""
    counts = progress.done or progress.total
    return f"{progress.what}  {amount(progress.done, progress.total, progress.unit)}".strip() if counts else progress.what


# ----------------------------------------------------------------------------------------------- the lines of an event


def _step_finished(event: ev.StepFinished) -> list[OutputLine]:
    return [outcome_line(event.step, event.outcome, event.seconds, event.summary)]


def _note(event: ev.Note) -> list[OutputLine]:
    return [OutputLine(f"  {line}", "amber" if event.level == "warning" else None) for line in event.text.splitlines()]


def _plan_made(event: ev.PlanMade) -> list[OutputLine]:
    # The plan step reports batch and steps, with their reasons, in a note.
    about = "" if event.exact else "≈ "
    parts = [f"{counted(event.train_tokens)} tokens"]
    if event.peak_memory_bytes:
        parts.append(f"{size(event.peak_memory_bytes)} at the peak")
    if event.seconds:
        parts.append(f"about {duration(event.seconds)}")
    return [OutputLine(f"  {about}{' · '.join(parts)}")]


def _layers_proved(event: ev.LayersProved) -> list[OutputLine]:
    return [OutputLine(f"  {event.sentence()}", None if event.isolated and not event.reason else "amber")]


def _resumed(event: ev.Resumed) -> list[OutputLine]:
    return [OutputLine(f"  resumed from step {counted(event.from_step)}")]


def _evaluated(event: ev.Evaluated) -> list[OutputLine]:
    return [
        OutputLine(f"  step {counted(event.step)}   held-out loss {loss(event.loss)}{'   best so far' if event.best else ''}")
    ]


_MEMORY_PLACES: dict[ev.MemoryPlace, str] = {
    "training": "",
    "optimizer step": " in the optimizer step",
    "held-out loss": " while evaluating",
    "samples": " while answering samples",
}


def memory_ran_out(event: ev.MemoryRanOut) -> list[OutputLine]:
    """Says what stays as it was: who reads of memory fears for the run."""
    how = {
        "smaller pieces": f"at most {counted(event.limit)} from here on, same batch and loss",
        "recompute activations": "activations are recomputed from here on: slower, same batch and loss",
        "done again": "undone and done again",
        "left out": "left out this time",
    }[event.answer]
    at_once = f", {counted(event.tokens)} tokens at once" if event.tokens else ""
    return [OutputLine(f"  out of memory at step {counted(event.step)}{_MEMORY_PLACES[event.place]}{at_once}: {how}", "amber")]


def _early_stopped(event: ev.EarlyStopped) -> list[OutputLine]:
    return [
        OutputLine(
            f"  stopped early at step {counted(event.step)}: {event.why()}; "
            f"best {loss(event.best_loss)} at step {counted(event.best_step)}"
        )
    ]


def _diverged(event: ev.TrainingDiverged) -> list[OutputLine]:
    return [OutputLine(f"  training diverged: the {event.quantity} at step {counted(event.step)} is {event.value}", "red")]


def _stop_acknowledged(event: ev.StopAcknowledged) -> list[OutputLine]:
    how = "finishes this step and saves" if event.mode == "save" else "aborts"
    return [OutputLine(f"  asked to stop: the run {how}")]


def _paused(event: ev.Paused) -> list[OutputLine]:
    return [OutputLine(f"  paused: {event.reason}", "amber"), OutputLine("  it goes on by itself when there is room", "amber")]


def _continued(event: ev.Continued) -> list[OutputLine]:
    return [OutputLine(f"  there is room again: going on after {duration(event.seconds)}")]


def _held_out(event: ev.HeldOut) -> list[OutputLine]:
    return [
        OutputLine(
            f"  {event.split}: loss {loss(event.base_loss)} → {loss(event.tuned_loss)}   token accuracy "
            f"{100 * event.base_accuracy:.1f} → {100 * event.tuned_accuracy:.1f} %   {counted(event.rows)} rows"
        )
    ]


def _suite_measured(event: ev.SuiteMeasured) -> list[OutputLine]:
    change = f"{suite_value(event, event.base)} → {suite_value(event, event.tuned)}"
    lost = f"{counted(event.lost)} lost, {counted(event.won)} won of {counted(event.items)}"
    colour: Colour | None = "amber" if event.verdict == "fell" else None
    return [OutputLine(f"  suite {suite_title(event.suite)}: {change}   {lost}   {event.verdict}", colour)]


def _packed(event: ev.Packed) -> list[OutputLine]:
    return [OutputLine(f"  {event.format} in {event.folder}   {size(event.size_bytes)}")]


_FORMATTERS: dict[type[ev.Event], Callable[[Any], list[OutputLine]]] = {
    ev.StepFinished: _step_finished,
    ev.Note: _note,
    ev.PlanMade: _plan_made,
    ev.LayersProved: _layers_proved,
    ev.Resumed: _resumed,
    ev.Evaluated: _evaluated,
    ev.MemoryRanOut: memory_ran_out,
    ev.EarlyStopped: _early_stopped,
    ev.TrainingDiverged: _diverged,
    ev.StopAcknowledged: _stop_acknowledged,
    ev.Paused: _paused,
    ev.Continued: _continued,
    ev.HeldOut: _held_out,
    ev.SuiteMeasured: _suite_measured,
    ev.Packed: _packed,
}
