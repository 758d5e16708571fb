"""Events as lines of the log pane: what the command line prints of them, and what only a screen has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from humigence_tui.event_text import LineWriter
from pipeline.common.text import duration, loss, safe
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventReader
from pipeline.runs.events import Envelope, readable
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState
from screens.frame.run_snapshot import Level, LogLine

_LEVELS: dict[str | None, Level] = {
    None: "info",
    "green": "good",
    "amber": "warning",
    "red": "error",
    "dim": "dim",
    "bold": "info",
}
_WRITER = LineWriter(progress=False)
# No line is made of these, and nearly all of a log is made of them.
_SILENT = (b'"kind":"train_step"', b'"kind":"step_progress"')
_PIECE_BYTES = 4 << 20
# Opening a run must not wait until gigabytes have been looked through.
_NEWEST_BYTES = 64 << 20


def log_lines(envelope: Envelope, state: RunState) -> list[LogLine]:
    """The lines of an event; none for optimizer steps and progress."""
    event = envelope.event
    if isinstance(event, (ev.TrainStep, ev.StepProgress)):
        return []
    own = _FORMATTERS.get(type(event))
    if own:
        formatted = own(event)
        return [LogLine(envelope.time, safe(formatted[0]), formatted[1])] if formatted[0] else []
    lines = _WRITER.lines(envelope, state)
    return [LogLine(envelope.time, safe(line.text.strip()), _LEVELS[line.colour]) for line in lines]


def logged_lines(run: RunFolder, end: int) -> list[LogLine]:
    """The lines of the log up to byte `end`, of its newest part where it is long; optimizer steps are passed over unread."""
    nothing = RunState()
    return [line for envelope in _logged_events(run, end) for line in log_lines(envelope, nothing)]


def _logged_events(run: RunFolder, end: int) -> Iterator[Envelope]:
    reader = EventReader(run, max(0, end - _NEWEST_BYTES))
    while reader.offset < end and (lines := reader.read_lines(min(_PIECE_BYTES, end - reader.offset))):
        for line in lines:
            envelope = None if any(kind in line[:140] for kind in _SILENT) else readable(line)
            if envelope:
                yield envelope


# --------------------------------------------------------------------------------- what the command line leaves out


def _attempt(event: ev.AttemptStarted) -> tuple[str, Level]:
    where = f" on {event.device}" if event.device else ""
    return f"process {event.pid} begins{where}", "dim"


def _step(event: ev.StepStarted) -> tuple[str, Level]:
    # The others are over soon and their end is logged.
    return ("▶ train" if event.step == "train" else ""), "dim"


def _evaluated(event: ev.Evaluated) -> tuple[str, Level]:
    return f"held-out loss {loss(event.loss)} at step {event.step:,}" + (", best so far" if event.best else ""), "info"


def _checkpoint(event: ev.CheckpointSaved) -> tuple[str, Level]:
    return f"checkpoint of step {event.step:,} saved", "dim"


def _gate(event: ev.GateJudged) -> tuple[str, Level]:
    levels: dict[str, Level] = {"passed": "good", "failed": "error", "not judged": "warning"}
    mark = {"passed": "✔", "failed": "✘"}.get(event.verdict, "·")
    return f"{mark} gate {event.gate.replace('_', ' ')}: {event.explanation}", levels[event.verdict]


def _finished(event: ev.RunFinished) -> tuple[str, Level]:
    return ("run finished", "good") if event.exit_code == 0 else ("run finished, acceptance gates failed", "error")


def _failed(event: ev.RunFailed) -> tuple[str, Level]:
    return f"{event.message}: {event.hint}" if event.hint else event.message, "error"


def _stopped(event: ev.RunStopped) -> tuple[str, Level]:
    saved = "" if event.saved_step is None else f"; a resume goes on from step {event.saved_step:,}"
    return ("stopped and saved" if event.mode == "save" else "aborted") + saved, "warning"


def _train_ended(event: ev.TrainEnded) -> tuple[str, Level]:
    return f"training is complete: {event.steps:,} steps in {duration(event.seconds)}", "info"


def _nothing(_: ev.Event) -> tuple[str, Level]:
    return "", "dim"


_FORMATTERS: dict[type[ev.Event], Callable[[Any], tuple[str, Level]]] = {
    ev.AttemptStarted: _attempt,
    ev.StepStarted: _step,
    ev.Evaluated: _evaluated,
    ev.CheckpointSaved: _checkpoint,
    ev.GateJudged: _gate,
    ev.RunFinished: _finished,
    ev.RunFailed: _failed,
    ev.RunStopped: _stopped,
    ev.TrainEnded: _train_ended,
    ev.Sampled: _nothing,
    ev.Answered: _nothing,
}
