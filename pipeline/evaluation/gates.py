"""The acceptance gates: what was measured, against the thresholds of the config.

Pure arithmetic over the reports of a run, so that `validate` can judge an old run by today's thresholds without loading a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.schema import AcceptanceSection
from pipeline.runs.event_log import read_state
from pipeline.runs.events import GateJudged
from pipeline.runs.folders import RunFolder
from pipeline.runs.store import read_report

HELD_OUT = "held-out loss"
JITTER = "throughput jitter"
CURATED = "curated answers"
_UNIT = "%"  # of the base model's loss; of the median step time; of the prompts
# Optimizer steps: fewer say more about the machine's first seconds than about the run.
LEAST_STEPS = 20
# Distance of the 10th and 90th percentile of a normal distribution in standard deviations.
_P10_TO_P90 = 2.5631


@dataclass(frozen=True)
class Evidence:
    """What the gates look at.

    Attributes:
        val: the `val` part of the evaluation report; None where there were no held-out rows.
        answers: the `curated` part; each with `tuned_reasons`.
        seconds: wall time of every counted optimizer step (see `TrainStep.counted`).
        tokens: real ones of each of them; empty where all are of one size.
    """

    val: dict[str, Any] | None
    answers: Sequence[dict[str, Any]]
    seconds: Sequence[float]
    tokens: Sequence[float] = ()


def evidence_of(run: RunFolder) -> Evidence | None:
    """What the run measured, or None when it has not been evaluated."""
    report = read_report(run.eval_report)
    if report is None:
        return None
    train = read_state(run).train
    steps = zip(train["seconds"], train["tokens"], train["counted"], strict=True)
    counted = [(seconds, tokens) for seconds, tokens, is_counted in steps if is_counted and tokens > 0]
    return Evidence(report["val"], report["curated"], [seconds for seconds, _ in counted], [tokens for _, tokens in counted])


def judge(evidence: Evidence, acceptance: AcceptanceSection) -> list[GateJudged]:
    """Every gate's verdict, in a fixed order. Too little evidence is "not judged", never "passed".

    Args:
        acceptance: today's thresholds; those of the run may have been others.
    """
    return [
        _held_out(evidence.val, acceptance.min_val_improvement_pct),
        _jitter(evidence.seconds, evidence.tokens, acceptance.jitter_threshold),
        _curated(evidence.answers, acceptance.curated_threshold),
    ]


def passed(gates: Sequence[GateJudged]) -> bool:
    """Whether no gate failed. Gates without evidence neither pass nor fail."""
    return all(gate.verdict != "failed" for gate in gates)


def summary(gates: Sequence[GateJudged]) -> str:
    """One line: "2 passed, 1 not judged"."""
    counts = {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in ("passed", "failed", "not judged")}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _held_out(val: dict[str, Any] | None, threshold: float) -> GateJudged:
    if val is None:
        return GateJudged(
            HELD_OUT, "not judged", None, threshold, _UNIT, "no held-out rows, so nothing to measure on",
            "give data.split.val a share, or add rows",
        )  # fmt: skip
    base, tuned = val["base_loss"], val["tuned_loss"]
    if base is None or tuned is None:
        broken = "tuned" if tuned is None else "base"
        return GateJudged(
            HELD_OUT, "failed", None, threshold, _UNIT, f"the {broken} model's held-out loss is not a finite number",
            "lower train.lr and train again",
        )  # fmt: skip
    improvement = 100 * (base - tuned) / base if base > 0 else 0.0
    text = f"held-out loss {base:.4f} before, {tuned:.4f} after, on {val['tokens']} tokens of {val['rows']} rows"
    if improvement >= threshold:
        return GateJudged(HELD_OUT, "passed", improvement, threshold, _UNIT, text)
    advice = "train longer or raise train.lr" if improvement >= 0 else "it got worse: lower train.lr or train.epochs, or add rows"
    return GateJudged(HELD_OUT, "failed", improvement, threshold, _UNIT, text, advice)


def spread_over_median(seconds: Sequence[float], tokens: Sequence[float] = ()) -> float:
    """A robust coefficient of variation of the step time: the 10th to 90th percentile as standard deviations of a normal, over
    the median. One step in ten may stall without a trace; more show fully.

    Steps of more tokens take longer by right: what a straight line (a fixed cost and one a token, least squares) explains of the
    time is no jitter.

    Args:
        seconds: of each step, at least one.
        tokens: of each step; none, or all alike, leave the time as it is.

    Returns:
        a share: 0.05 is a spread of 5 % of the median.
    """
    times = np.asarray(seconds, dtype=float)  # (steps,) seconds
    rest = times
    sizes = np.asarray(tokens, dtype=float)
    if sizes.size and np.ptp(sizes) > 0:
        # Seconds a token, by least squares; more tokens never take less.
        slope = max(0.0, float(np.cov(sizes, times, bias=True)[0, 1] / np.var(sizes)))
        rest = times - slope * sizes
    low, high = np.percentile(rest, (10, 90))
    return float((high - low) / _P10_TO_P90 / np.median(times))


def _jitter(seconds: Sequence[float], tokens: Sequence[float], threshold: float) -> GateJudged:
    count = len(seconds)
    if count < LEAST_STEPS:
        return GateJudged(
            JITTER, "not judged", None, 100 * threshold, _UNIT, f"{count} counted optimizer steps, {LEAST_STEPS} are needed",
            "more rows, train.epochs or a smaller train.tokens_per_step_target give more steps", at_most=True,
        )  # fmt: skip
    spread = spread_over_median(seconds, tokens)
    rate = f" ({sum(tokens) / sum(seconds):,.0f} tokens/s)" if tokens else ""
    text = f"spread of the step time over its median, of {count} steps without evaluations and checkpoints{rate}"
    if spread <= threshold:
        return GateJudged(JITTER, "passed", 100 * spread, 100 * threshold, _UNIT, text, at_most=True)
    return GateJudged(
        JITTER, "failed", 100 * spread, 100 * threshold, _UNIT, text,
        "something else used the machine, it ran hot, or the disk was slow: train again on a quiet one", at_most=True,
    )  # fmt: skip


def _curated(answers: Sequence[dict[str, Any]], threshold: float) -> GateJudged:
    if not answers:
        return GateJudged(
            CURATED, "not judged", None, 100 * threshold, _UNIT, "no curated prompts",
            "put some into the file that eval.curated_prompts_path names",
        )  # fmt: skip
    bad = [answer for answer in answers if answer["tuned_reasons"]]
    share = 1 - len(bad) / len(answers)
    text = f"{len(answers) - len(bad)} of {len(answers)} answers are reasonable"
    # In whole answers: 7 of 10 reach 0.7 whatever the division rounds to.
    if len(answers) - len(bad) >= threshold * len(answers) - 1e-9:
        return GateJudged(CURATED, "passed", 100 * share, 100 * threshold, _UNIT, text)
    first = bad[0]
    text += f"; the first that is not, to {_short(first['prompt'])}: {first['tuned_reasons'][0]}"
    return GateJudged(
        CURATED,
        "failed",
        100 * share,
        100 * threshold,
        _UNIT,
        text,
        "read the answers in the report; lower train.lr or add rows",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:59] + "…")
