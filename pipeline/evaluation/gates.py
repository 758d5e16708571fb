"""The acceptance gates: what was measured, against the thresholds of the config.

Pure arithmetic over the reports of a run, so that `validate` can judge an old run by today's thresholds without loading a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.answers_gate import judge_answers
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.forgetting_gate import judge_forgetting
from pipeline.evaluation.held_out_gate import HELD_OUT, judge_held_out
from pipeline.evaluation.jitter_gate import judge_jitter
from pipeline.runs.events import GateJudged

GATES = (judge_held_out, judge_jitter, judge_answers, judge_forgetting)
"""In the order in which they are shown."""


def judge(evidence: Evidence, acceptance: AcceptanceSection) -> list[GateJudged]:
    """Every gate's verdict, in a fixed order. Too little evidence is "not judged", never "passed"; what nobody asked to be
    measured is no gate.

    Args:
        acceptance: today's thresholds; those of the run may have been others.
    """
    return [verdict for gate in GATES if (verdict := gate(evidence, acceptance)) is not None]


def passed(gates: Sequence[GateJudged]) -> bool:
    """Whether no gate failed. Gates without evidence neither pass nor fail."""
    return all(gate.verdict != "failed" for gate in gates)


def ships(gates: Sequence[GateJudged]) -> bool:
    """Whether the result is shown to be better: no gate failed, and the held-out loss passed."""
    return passed(gates) and any(gate.gate == HELD_OUT and gate.verdict == "passed" for gate in gates)


def summary(gates: Sequence[GateJudged]) -> str:
    """One line: "2 passed, 1 not judged"."""
    verdicts = ("passed", "failed", "not judged", "warning")
    counts = {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in verdicts}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
