"""What the gates look at, read from the reports of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.runs.event_log import read_state
from pipeline.runs.events import SuiteMeasured
from pipeline.runs.folders import RunFolder
from pipeline.runs.store import read_report


@dataclass(frozen=True)
class Evidence:
    """What a run measured.

    Attributes:
        val: the `val` part of the evaluation report; None where there were no held-out rows.
        answers: the `curated` part; each with `tuned_reasons`.
        seconds: wall time of every counted optimizer step (see `TrainStep.counted`).
        tokens: real ones of each of them; empty where all are of one size.
        judged: the part that the held-out loss is judged by, with its `split`: `test`, which nothing but the evaluation has
            looked at, else `val`; None where an older version evaluated, or nothing was held out.
        suites: what was asked beside, to see whether it is forgotten.
    """

    val: dict[str, Any] | None
    answers: Sequence[dict[str, Any]]
    seconds: Sequence[float]
    tokens: Sequence[float] = ()
    judged: dict[str, Any] | None = None
    suites: Sequence[SuiteMeasured] = ()

    def to_json(self) -> dict[str, Any]:
        """For a fingerprint: what an older version measured is found by the one that it had."""
        document = asdict(self)
        if self.judged is None:
            del document["judged"]
        if not self.suites:
            del document["suites"]
        return document


def evidence_of(run: RunFolder) -> Evidence | None:
    """What the run measured, or None when it has not been evaluated."""
    report = read_report(run.eval_report)
    if report is None:
        return None
    train = read_state(run).train
    steps = zip(train["seconds"], train["tokens"], train["counted"], strict=True)
    counted = [(seconds, tokens) for seconds, tokens, is_counted in steps if is_counted and tokens > 0]
    seconds, tokens = [seconds for seconds, _ in counted], [tokens for _, tokens in counted]
    return Evidence(report["val"], report["curated"], seconds, tokens, _judged(report), suites_of(report))


def suites_of(report: dict[str, Any]) -> list[SuiteMeasured]:
    """The suites of an evaluation report; none in one of an older version."""
    names = {each.name for each in fields(SuiteMeasured)}
    return [SuiteMeasured(**{name: row[name] for name in names & row.keys()}) for row in report.get("suites") or ()]


def _judged(report: dict[str, Any]) -> dict[str, Any] | None:
    for split in ("test", "val"):
        if figures := report.get(split):
            return {"split": split, **figures} if "paired" in figures else None
    return None
