"""Whether the curated prompts are answered well enough, and no worse than before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.statistics import LEVEL, sign_test
from pipeline.runs.events import GateJudged, Verdict
from pipeline.runs.headline import p_value

CURATED = "curated answers"
_UNIT = "%"  # of the prompts


def judge_answers(evidence: Evidence, acceptance: AcceptanceSection) -> GateJudged:
    """Passed where enough answers are reasonable and the tuned model does not lose more of them than it wins."""
    answers, threshold = evidence.answers, acceptance.curated_threshold
    if not answers:
        return _verdict(
            "not judged", None, threshold, "no curated prompts", "put some into the file that eval.curated_prompts_path names"
        )
    bad = [answer for answer in answers if answer["tuned_reasons"]]
    good = len(answers) - len(bad)
    better, worse = _changed(answers)
    chance = sign_test(better, worse)
    text = f"{good} of {len(answers)} answers are reasonable; against the base model {better} better, {worse} worse"
    text += f" ({p_value(chance)})" if better or worse else ""
    # In whole answers: 7 of 10 reach 0.7 whatever the division rounds to.
    if good < threshold * len(answers) - 1e-9:
        text += f"; the first that is not, to {_short(bad[0]['prompt'])}: {bad[0]['tuned_reasons'][0]}"
        return _verdict(
            "failed", good / len(answers), threshold, text, "read the answers in the report; lower train.lr or add rows"
        )
    if worse <= better:
        return _verdict("passed", good / len(answers), threshold, text)
    lost = next(answer for answer in answers if answer["tuned_reasons"] and not answer.get("base_reasons"))
    text += f"; the first lost, to {_short(lost['prompt'])}: {lost['tuned_reasons'][0]}"
    if chance < LEVEL:
        return _verdict(
            "failed", good / len(answers), threshold, text, "it answers worse: lower train.lr or train.epochs, or add rows"
        )
    action = (
        "read the lost answers; more prompts would tell whether it answers worse, a lower train.lr keeps more of the base model"
    )
    return _verdict("not judged", good / len(answers), threshold, text + "; that may be chance", action)


def _verdict(verdict: Verdict, share: float | None, threshold: float, text: str, action: str = "") -> GateJudged:
    value = None if share is None else 100 * share
    return GateJudged(CURATED, verdict, value, 100 * threshold, _UNIT, text, action)


def _changed(answers: Sequence[dict[str, Any]]) -> tuple[int, int]:
    better = sum(bool(answer.get("base_reasons")) and not answer["tuned_reasons"] for answer in answers)
    return better, sum(bool(answer["tuned_reasons"]) and not answer.get("base_reasons") for answer in answers)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:59] + "…")
