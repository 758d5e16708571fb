"""Whether a suite fell: a warning, unless the config makes it a gate."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.evidence import Evidence
from pipeline.runs.events import GateJudged, SuiteMeasured, SuiteVerdict, Verdict
from pipeline.runs.headline import p_value, suite_title, suite_value

FORGETTING = "forgetting"


def judge_forgetting(evidence: Evidence, acceptance: AcceptanceSection) -> GateJudged | None:
    """How many suites fell, of those that were measured; None where none was."""
    suites = evidence.suites
    if not suites:
        return None
    fell, held = _with("fell", suites), _with("held", suites)
    verdict: Verdict = "passed" if held else "not judged"
    if fell:
        verdict = "failed" if acceptance.forgetting == "gate" else "warning"
    parts = [_fall(suite) for suite in fell]
    parts += [_listed(suites, each) for each in ("held", "not enough evidence", "not informative") if _with(each, suites)]
    action = "a lower train.lr or fewer train.epochs keep more of the base model; so do rows of other kinds among the data"
    if not fell:
        action = "a base model that knows more, or other suites (eval.suites), would tell"
    text = "; ".join(parts)
    value = float(len(fell)) if fell or held else None
    return GateJudged(FORGETTING, verdict, value, 0, "fell", text, "" if verdict == "passed" else action, at_most=True)


def _with(verdict: SuiteVerdict, suites: Sequence[SuiteMeasured]) -> list[SuiteMeasured]:
    return [suite for suite in suites if suite.verdict == verdict]


def _fall(suite: SuiteMeasured) -> str:
    change = f"{suite_value(suite, suite.base)} to {suite_value(suite, suite.tuned)}"
    return f"{suite_title(suite.suite)} fell from {change} ({suite.lost} lost, {suite.won} won, {p_value(suite.p_value)})"


def _listed(suites: Sequence[SuiteMeasured], verdict: SuiteVerdict) -> str:
    return f"{verdict}: {', '.join(suite_title(suite.suite) for suite in _with(verdict, suites))}"
