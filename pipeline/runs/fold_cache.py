"""A run's fold, saved beside its log, so that a long run or a list of a thousand opens at once. Deleting it changes nothing.

`state.cache` is two lines of JSON: how far in the log the fold reaches and what a list shows of the run; then the whole
`RunState` but for its curves, which follow as the bytes of their doubles. It is never trusted: another version, a log that is
shorter or different at that place, or damage, and the log is read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import __version__
from pipeline.runs.curve import Curve
from pipeline.runs.event_log import EventReader
from pipeline.runs.events import Envelope, Event, from_line, to_line
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import RunFolder
from pipeline.runs.forecast import Expectation, expect
from pipeline.runs.state import RunState, Status, StepState

_MARK_BYTES = 4096
# A short log is folded faster than its cache is written.
WORTH_IT_BYTES = 64 << 10


@dataclass(frozen=True)
class Summary:
    """What a list of runs shows of one, whether or not its process lives (see `runs.status_of`). Times in seconds."""

    status: Status = "starting"
    model: str = ""
    precision_mode: str = ""
    device: str = ""
    training: bool = False
    started: float | None = None
    ended: float | None = None
    last_event: float | None = None
    busy_seconds: float = 0.0  # in steps, all attempts
    busy_since: float | None = None  # from when on the running step is not in that yet
    current: str = ""
    step: int = 0
    total_steps: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    tokens_per_second: float | None = None
    next_by: float | None = None  # these five: see `forecast.Expectation`
    rest_s: float = 0.0
    at_least: bool = False
    last_step: float | None = None
    late_from: float | None = None
    saved_step: int | None = None
    exit_code: int | None = None
    error: str = ""
    diverged: bool = False
    stopped_early: bool = False
    gates_passed: int = 0
    gates_failed: int = 0
    gates_open: int = 0

    @property
    def expected(self) -> Expectation | None:
        """When it will be done; None where there is nothing to go by."""
        if self.next_by is None:
            return None
        return Expectation(self.next_by, self.rest_s, self.at_least, self.last_step, self.late_from)


def summarize(state: RunState) -> Summary:
    """The list's view of a fold."""
    best, expected = state.best, expect(state)
    verdicts = [gate.verdict for gate in state.gates]
    return Summary(
        status=state.status, model=state.model, precision_mode=state.precision_mode, device=state.device,
        training=state.training, started=state.started, ended=state.ended, last_event=state.last_event,
        busy_seconds=busy_seconds(state), busy_since=_busy_since(state), current=state.current or "",
        step=state.step, total_steps=state.total_steps,
        train_loss=state.train_loss, val_loss=state.val_loss, best_step=best[0] if best else None,
        best_loss=best[1] if best else None, tokens_per_second=state.tokens_per_second(),
        **(dataclasses.asdict(expected) if expected else {}),
        saved_step=state.saved_step, exit_code=state.exit_code, error=state.error.message if state.error else "",
        diverged=state.diverged is not None, stopped_early=state.early_stopped is not None,
        gates_passed=verdicts.count("passed"), gates_failed=verdicts.count("failed"), gates_open=verdicts.count("not judged"),
    )  # fmt: skip


def busy_seconds(state: RunState) -> float:
    """Time spent in steps, all attempts: what lay between two attempts is not counted."""
    trained = state.train.total("seconds")
    return sum(max(step.seconds, trained) if name == "train" else step.seconds for name, step in state.steps.items())


def _busy_since(state: RunState) -> float | None:
    name = state.current
    if name is None:
        return None
    # Of training what was trained is counted already.
    return state.last_event if name == "train" and len(state.train) else state.steps[name].started


# ------------------------------------------------------------------------------------------------------- reading


def path_of(run: RunFolder) -> Path:
    return run.path / "state.cache"


def read_folded(run: RunFolder) -> tuple[RunState, EventReader]:
    """The fold of the log so far, and a reader that goes on from there. The cache is renewed when that saves time."""
    state, reader = cached(run) or (RunState(), EventReader(run))
    before = reader.offset
    while lines := reader.read_lines():
        fold_lines(lines, state)
    if reader.offset - before > WORTH_IT_BYTES:
        save(run, state, reader.offset)
    return state, reader


def read_summary(run: RunFolder) -> Summary:
    """The first line of the cache where it is up to date; else from the log, and the cache is made."""
    head = _head(run)
    if head is not None and head["offset"] == _size(run.events):
        with contextlib.suppress(TypeError):
            return Summary(**head["summary"])
    state, reader = read_folded(run)
    if reader.offset:
        save(run, state, reader.offset)
    return summarize(state)


def unread_bytes(run: RunFolder) -> int:
    """How much of the log would have to be read, which the cache does not hold."""
    head = _head(run)
    return max(0, _size(run.events) - (head["offset"] if head else 0))


def save(run: RunFolder, state: RunState, offset: int) -> None:
    """Write the cache; a folder that can't be written to just has none.

    Args:
        state: the fold of the log's first `offset` bytes.
        offset: bytes, at the end of a line.
    """
    summary = dataclasses.asdict(summarize(state))
    finite = {key: value for key, value in summary.items() if not isinstance(value, float) or value - value == 0}
    head = {"version": _version(state), "offset": offset, "mark": _mark(run.events, offset), "summary": finite}
    columns: list[memoryview[float]] = []
    text = json.dumps(head, allow_nan=False) + "\n" + json.dumps(_encoded(state, columns), allow_nan=False) + "\n"
    # Not flushed to disk: after a power cut a damaged cache is noticed and made again.
    with contextlib.suppress(OSError):
        fd, temporary = tempfile.mkstemp(prefix=".state.", suffix=".tmp", dir=run.path)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            for column in columns:
                file.write(column)
        os.replace(temporary, path_of(run))


def _head(run: RunFolder) -> dict[str, Any] | None:
    try:
        with path_of(run).open("rb") as file:
            head = json.loads(file.readline())
        fits = head["version"] == _version(RunState()) and head["mark"] == _mark(run.events, head["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return head if fits else None


def cached(run: RunFolder) -> tuple[RunState, EventReader] | None:
    """The fold as the cache has it and a reader that goes on from there; None where there is no usable cache."""
    head = _head(run)
    if head is None:
        return None
    try:
        with path_of(run).open("rb") as file:
            file.readline()
            state = _decoded(json.loads(file.readline()), file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return (state, EventReader(run, head["offset"])) if isinstance(state, RunState) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mark(log: Path, offset: int) -> str:
    """Digest of the bytes just before `offset`: another log has others there."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, offset - _MARK_BYTES))
            data = file.read(min(offset, _MARK_BYTES))
    except OSError:
        return ""
    return hashlib.sha256(data).hexdigest() if len(data) == min(offset, _MARK_BYTES) else ""


def _version(state: RunState) -> str:
    """Changes with the program and with the shape of the fold."""
    names = [field.name for cls in (RunState, StepState, Summary) for field in dataclasses.fields(cls)]
    shape = [*names, *state.train.names, *state.held_out.names]
    return hashlib.sha256(" ".join((__version__, "columns behind", *shape)).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------ JSON form


def _encoded(value: Any, columns: list[memoryview[float]]) -> Any:
    """`value` as JSON; what JSON has no word for is an object with one key that names it.

    Args:
        columns: takes those of the curves met on the way, in the order in which `_decoded` wants them.
    """
    if isinstance(value, Event):
        return {"event": to_line(Envelope(0, 0.0, 0, value))}
    if isinstance(value, Curve):
        columns += [value[name] for name in value.names]
        return {"curve": [len(value), *value.names]}
    if isinstance(value, (RunState, StepState)):
        fields = {field.name: _encoded(getattr(value, field.name), columns) for field in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, deque):
        return {"deque": [value.maxlen, [_encoded(each, columns) for each in value]]}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(each, columns) for each in value]}
    if isinstance(value, dict):
        return {"dict": {key: _encoded(each, columns) for key, each in value.items()}}
    return [_encoded(each, columns) for each in value] if isinstance(value, list) else value


def _decoded(value: Any, file: BinaryIO) -> Any:
    """What `_encoded` was given; `file` is where the columns begin."""
    if isinstance(value, list):
        return [_decoded(each, file) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    return _DECODERS[kind](inner, file)


def _event(line: str, _: BinaryIO) -> Event:
    envelope = from_line(line)
    if envelope is None:
        raise ValueError("an event of another version")
    return envelope.event


def _curve(header: list[Any], file: BinaryIO) -> Curve:
    points, *names = header
    if points * len(names) > _size(Path(file.name)):
        raise ValueError("more points than there can be")
    curve = Curve(*names)
    curve.fill(points, file.readinto)  # type: ignore[attr-defined]  # a file has it, though not every BinaryIO
    return curve


_DECODERS: dict[str, Any] = {
    "event": _event,
    "curve": _curve,
    "RunState": lambda fields, file: RunState(**{name: _decoded(each, file) for name, each in fields.items()}),
    "StepState": lambda fields, file: StepState(**{name: _decoded(each, file) for name, each in fields.items()}),
    "deque": lambda parts, file: deque((_decoded(each, file) for each in parts[1]), maxlen=parts[0]),
    "tuple": lambda parts, file: tuple(_decoded(each, file) for each in parts),
    "dict": lambda parts, file: {key: _decoded(each, file) for key, each in parts.items()},
}
