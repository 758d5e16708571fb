"""What can happen in a run: small frozen records, each with one JSON form.

`events.jsonl` holds one envelope a line: `{"v": 1, "seq": 7, "time": 1763800000.1, "attempt": 1, "kind": "step_started", …}`.
Events carry numbers and text, never live objects. A reader skips kinds it does not know (a log of a newer version) and fields
it does not know, so that old programs can follow new runs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

SCHEMA_VERSION = 1

StepName = Literal["validate", "plan", "model", "preprocess", "train", "evaluate", "pack", "gates"]
STEP_NAMES: tuple[StepName, ...] = typing.get_args(StepName)
StepOutcome = Literal["done", "unchanged", "skipped", "failed", "stopped"]
StopMode = Literal["save", "abort"]
# A warning says what was found and leaves the exit code alone.
Verdict = Literal["passed", "failed", "not judged", "warning"]
SuiteVerdict = Literal["fell", "held", "not enough evidence", "not informative"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. `kind` is the class name in snake case."""

    kind: ClassVar[str]


# ------------------------------------------------------------------------------------------------ life of the run


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """A process took the run's lock. The first attempt creates the run, later ones resume or redo a part."""

    pid: int
    project: str
    model: str  # what a person calls it: the repository, or the file's name
    precision_mode: str
    training: bool  # whether training was asked for
    device: str = ""  # "NVIDIA H100 80GB HBM3", "CPU"


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """Every step asked for is done. `exit_code` is 3 when a gate failed."""

    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class RunFailed(Event):
    """The run ended by an error. `message` and `hint` are what a person reads."""

    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class StopAcknowledged(Event):
    """The worker has seen a request to stop and will follow it at the end of this optimizer step."""

    mode: StopMode


@dataclass(frozen=True, slots=True)
class RunStopped(Event):
    """The run ended because it was asked to. `saved_step` is the checkpoint a resume goes on from."""

    mode: StopMode
    saved_step: int | None


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """The run waits for something outside of it, room on the disk: `reason` says what a person can do about it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Continued(Event):
    """A pause is over. `seconds` is how long it took."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Note(Event):
    """Something worth telling that is not an error: shown in the log pane and on stderr."""

    text: str
    level: Literal["info", "warning"] = "info"


# ---------------------------------------------------------------------------------------------- life of a step


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    step: StepName


@dataclass(frozen=True, slots=True)
class StepProgress(Event):
    """How far a step is, for everything but optimizer steps. `total` is 0 where it can't be known."""

    step: StepName
    done: int
    total: int
    unit: str  # "rows", "bytes", "answers", …
    what: str = ""  # "reading", "tokenizing", a file's name


@dataclass(frozen=True, slots=True)
class StepFinished(Event):
    """`summary` is one line for a person: "9 train, 1 val, 2 test rows"."""

    step: StepName
    outcome: StepOutcome
    seconds: float
    summary: str = ""


# -------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, slots=True)
class PlanMade(Event):
    """Batch arithmetic of the run. `exact` is false while it rests on a sample of the data (marked ≈)."""

    exact: bool
    micro_batch: int  # rows in one forward pass
    accumulation: int  # forward passes in one optimizer step
    total_steps: int  # optimizer steps
    tokens_per_step: int
    train_tokens: int  # tokens seen in the whole run
    eval_every_steps: int
    peak_memory_bytes: int  # 0 where unknown
    seconds: float  # estimated wall time of training; 0 where unknown


@dataclass(frozen=True, slots=True)
class LayersProved(Event):
    """What the proof on the loaded model found, of the layers as they train from here on.

    Differences are relative: of a document's logits beside others and alone, and of the gradient by fused and by own layers.
    """

    isolated: bool  # no document sees another, in the layout that is trained
    how: str  # "positions", "mask", "indices" or "rows", as `planning.compute.Isolation`
    fused: bool | None  # whether the fused layers hold; None where they were not asked
    isolation_difference: float
    fused_difference: float | None = None
    reason: str = ""  # why packing is off or the model's own layers are trained, where the plan had wanted otherwise
    seconds: float = 0.0

    def sentence(self) -> str:
        """One line for a person: `packed conversations are independent of each other (difference 2e-07)`."""
        apart = {
            "positions": "packed conversations are independent of each other",
            "mask": "packed conversations are independent of each other, by a mask over all tokens",
            "indices": "packed conversations are independent of each other, by the number of each token's conversation",
            "rows": "one conversation a row, independent of each other",
        }.get(self.how, self.how)
        if not self.isolated:
            apart = "conversations are not independent of each other"
        parts = [f"{apart} (difference {self.isolation_difference:.0e})"]
        if self.fused:
            measured = "" if self.fused_difference is None else f" (difference {self.fused_difference:.0e})"
            parts = [f"{apart}, and the fused layers compute what the model's own do{measured}"]
        return "; ".join([*parts, *([self.reason] if self.reason else [])])


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """Training goes on from this optimizer step: what was logged after it never happened."""

    from_step: int


@dataclass(frozen=True, slots=True)
class TrainStep(Event):
    """One optimizer step. `seconds` is its wall time without evaluation, checkpoint and samples."""

    step: int
    total_steps: int
    epoch: float
    loss: float  # mean over the step's trained tokens, nats
    lr: float
    grad_norm: float
    tokens: int  # real tokens seen in this step, padding not counted
    trained_tokens: int  # those with a label
    seconds: float
    counted: bool = True  # false for steps that compile or warm up: left out of the throughput
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Evaluated(Event):
    """Held-out loss while training."""

    step: int
    loss: float  # nats a token
    tokens: int
    seconds: float
    best: bool


@dataclass(frozen=True, slots=True)
class Sampled(Event):
    """What the model being trained answers to a curated prompt."""

    step: int
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    step: int
    folder: str  # relative to the run folder
    best: bool
    seconds: float


MemoryPlace = Literal["training", "optimizer step", "held-out loss", "samples"]
MemoryAnswer = Literal["smaller pieces", "recompute activations", "done again", "left out"]


@dataclass(frozen=True, slots=True)
class MemoryRanOut(Event):
    """Something did not fit into the memory, and the run goes on another way: same rows in a step, same loss."""

    step: int  # the optimizer step being made, or the one evaluated after
    place: MemoryPlace
    answer: MemoryAnswer
    tokens: int = 0  # at once, padding included, that did not fit; 0 where it is not about tokens
    limit: int = 0  # most tokens at once from here on; 0 for no limit


@dataclass(frozen=True, slots=True)
class EarlyStopped(Event):
    """For `patience` evaluations the held-out loss was not lower than its best by more than `min_delta` nats a token."""

    step: int
    best_step: int  # of the lowest loss, which may be one of those evaluations
    best_loss: float
    patience: int
    min_delta: float = 0.0

    def why(self) -> str:
        """`the held-out loss did not fall by more than 0.001 in 3 evaluations`."""
        at_least = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"the held-out loss did not fall{at_least} in {self.patience} evaluation{'' if self.patience == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class TrainingDiverged(Event):
    """A loss or gradient norm was not finite. `quantity` names it; the value is NaN or an infinity."""

    step: int
    quantity: Literal["loss", "gradient norm"]
    value: float


@dataclass(frozen=True, slots=True)
class TrainEnded(Event):
    """Training is complete: all steps, or stopped early."""

    steps: int
    best_step: int
    best_loss: float | None
    seconds: float  # of optimizer steps, all attempts
    tokens: int
    peak_memory_bytes: int


# --------------------------------------------------------------------------------------------- what came out


@dataclass(frozen=True, slots=True)
class HeldOut(Event):
    """Base and tuned model on one held-out split.

    `better` and `worse`: of how many conversations the tuned model's loss is lower or higher, with the sign test's `p_value`;
    None where an older version measured. `against`: what the same answers under other questions say against a gain
    (`pipeline.evaluation.held_out_gate`); "" for nothing.
    """

    split: Literal["val", "test"]
    rows: int
    tokens: int
    base_loss: float
    tuned_loss: float
    base_accuracy: float  # share of trained tokens predicted first
    tuned_accuracy: float
    conversations: int | None = None
    better: int | None = None
    worse: int | None = None
    p_value: float | None = None
    against: str = ""


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """A curated prompt answered by both. Reasons are empty for a reasonable answer."""

    prompt: str
    base: str
    tuned: str
    base_reasons: tuple[str, ...]
    tuned_reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SuiteMeasured(Event):
    """A suite of questions answered by both.

    `base` and `tuned` are means over its items: shares of right answers where `measure` is empty, else what it names. `won` and
    `lost`: items that are better or worse with the adapter, with McNemar's `p_value`.
    """

    suite: str
    items: int
    base: float
    tuned: float
    won: int
    lost: int
    p_value: float
    verdict: SuiteVerdict
    chance: float | None = None  # share right without knowing anything; None where that is not known
    measure: str = ""


@dataclass(frozen=True, slots=True)
class Packed(Event):
    folder: str
    format: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GateJudged(Event):
    """`value` and `threshold` are in `unit`; `value` is None where there was no evidence.

    `at_most`: the value must not exceed the threshold, else it must reach it.
    """

    gate: str
    verdict: Verdict
    value: float | None
    threshold: float
    unit: str
    explanation: str
    next_action: str = ""
    at_most: bool = False


# ------------------------------------------------------------------------------------------------ JSON form


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with when it happened. `seq` counts from 1 through all attempts; `time` is seconds since 1970 UTC."""

    seq: int
    time: float
    attempt: int
    event: Event


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _named() -> dict[str, type[Event]]:
    # Not Event.__subclasses__(): a dataclass with slots is a second class, and the first may still be alive.
    classes = [value for value in globals().values() if isinstance(value, type) and issubclass(value, Event)]
    for cls in classes:
        cls.kind = _snake(cls.__name__)
    return {cls.kind: cls for cls in classes if cls is not Event}


KINDS: dict[str, type[Event]] = _named()

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_line(envelope: Envelope) -> str:
    """The envelope as one JSON line without its newline. Numbers that are not finite are written as text."""
    event = envelope.event
    document = {"v": SCHEMA_VERSION, "seq": envelope.seq, "time": envelope.time, "attempt": envelope.attempt, "kind": event.kind}
    for name in _field_types(type(event)):
        value = getattr(event, name)
        document[name] = _spelled(value) if isinstance(value, float) and not math.isfinite(value) else value
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _spelled(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def from_line(line: str | bytes) -> Envelope | None:
    """The envelope of one line, or None for a kind this version does not know.

    Raises:
        ValueError: the line is not an event at all.
    """
    document = json.loads(line)
    try:
        cls = KINDS.get(document["kind"])
        if cls is None:
            return None
        values = {name: _typed(document[name], types_) for name, types_ in _field_types(cls).items() if name in document}
        return Envelope(document["seq"], document["time"], document["attempt"], cls(**values))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {error}") from error


def readable(line: bytes) -> Envelope | None:
    """The envelope of a line of a log, or None: a damaged line (a bad disk, an editor) hides itself, not the rest of the run."""
    try:
        return from_line(line)
    except ValueError:
        return None


_FIELD_TYPES: dict[type[Event], dict[str, tuple[bool, bool]]] = {}


def _field_types(cls: type[Event]) -> dict[str, tuple[bool, bool]]:
    """Per field: whether it is a number with a fraction, whether it is a tuple. Looked up once a class."""
    known = _FIELD_TYPES.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        known = {
            field.name: (_mentions(hints[field.name], float), typing.get_origin(hints[field.name]) is tuple)
            for field in dataclasses.fields(cls)
        }
        _FIELD_TYPES[cls] = known
    return known


def _mentions(hint: Any, wanted: type) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_mentions(part, wanted) for part in typing.get_args(hint))
    return hint is wanted


def _typed(value: Any, types_: tuple[bool, bool]) -> Any:
    is_float, is_tuple = types_
    if is_float and isinstance(value, str):
        return _NOT_FINITE[value]
    return tuple(value) if is_tuple and isinstance(value, list) else value
