"""Step 8: the result against the thresholds of the config. Writes `acceptance_report.json`; the judging is in `acceptance`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.common.errors import MissingArtifact
from pipeline.common.files import fingerprint as fingerprint_of
from pipeline.common.files import write_json
from pipeline.config.affects import in_order, settings_of
from pipeline.evaluation import gates as acceptance
from pipeline.evaluation.evidence import Evidence, evidence_of
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import GateJudged, Note
from pipeline.runs.folders import RunFolder
from pipeline.runs.store import read_report


@dataclass(frozen=True)
class GatesResult(StepResult):
    """`passed` is False when a gate failed: the run ends with exit code 3."""

    passed: bool = True
    gates: tuple[GateJudged, ...] = ()


def fingerprint(ctx: StepContext) -> str | None:
    """Changes with the evidence and the thresholds; None before there is evidence."""
    evidence = evidence_of(ctx.run) if ctx.run else None
    return None if evidence is None else _fingerprint(evidence, ctx)


def _fingerprint(evidence: Evidence, ctx: StepContext) -> str:
    return fingerprint_of(evidence.to_json(), *in_order(settings_of(ctx.config, "verdicts"), "acceptance"))


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the verdicts in the run's report are those that would be given now."""
    report = read_report(ctx.run.acceptance_report) if ctx.run else None
    return report is not None and report["fingerprint"] == fingerprint(ctx)


def run(ctx: StepContext) -> GatesResult:
    """Judge, emit the verdicts and write the report. A failed gate is a result, not an error.

    Raises:
        MissingArtifact: the run has not been evaluated.
    """
    evidence = evidence_of(ctx.run) if ctx.run else None
    if ctx.run is None or evidence is None:
        raise MissingArtifact("there is nothing to judge: the trained model has not been evaluated", "humigence eval")
    unchanged = is_unchanged(ctx)
    gates = acceptance.judge(evidence, ctx.config.acceptance)
    for gate in gates:
        ctx.emit(gate)
    if all(gate.verdict == "not judged" for gate in gates):
        ctx.emit(Note("no gate had enough evidence: nothing speaks for this result and nothing against it", "warning"))
    passed = acceptance.passed(gates)
    if not unchanged:
        _write(ctx.run, _fingerprint(evidence, ctx), gates, passed)
    return GatesResult("unchanged" if unchanged else "done", acceptance.summary(gates), passed, tuple(gates))


def _write(run: RunFolder, fingerprint: str, gates: list[GateJudged], passed: bool) -> None:
    write_json(run.acceptance_report, {"fingerprint": fingerprint, "gates": [asdict(gate) for gate in gates], "passed": passed})
