"""Whether training ran at a steady speed, seconds at a time: a warning, unless the config makes it a gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.evidence import Evidence
from pipeline.runs.events import GateJudged, Verdict

JITTER = "throughput jitter"
_UNIT = "%"  # of the median step time
WINDOW_SECONDS = 2.0
"""Steps are taken together until they last so long: single steps of milliseconds jitter on a quiet machine."""
LEAST_WINDOWS = 10
"""Fewer say more about the machine's first seconds than about the run."""
# Distance of the 10th and 90th percentile of a normal distribution in standard deviations.
_P10_TO_P90 = 2.5631


def judge_jitter(evidence: Evidence, acceptance: AcceptanceSection) -> GateJudged:
    """The spread of the step time over windows of seconds. Above the threshold it warns; it fails where that is asked for."""
    threshold = acceptance.jitter_threshold
    steps, tokens = windows(evidence.seconds, evidence.tokens)
    if len(steps) < LEAST_WINDOWS:
        return GateJudged(
            JITTER, "not judged", None, 100 * threshold, _UNIT,
            f"{len(steps)} window{'s' * (len(steps) != 1)} of {WINDOW_SECONDS:.0f} s (a step that takes longer is one),"
            f" {LEAST_WINDOWS} are needed",
            "only longer training says more; nothing is wrong with a short one", at_most=True,
        )  # fmt: skip
    spread = spread_over_median(steps, tokens)
    rate = f" ({sum(evidence.tokens) / sum(evidence.seconds):,.0f} tokens/s)" if evidence.tokens else ""
    text = f"spread of the step time over its median, of {len(steps)} windows of {WINDOW_SECONDS:.0f} s without evaluations{rate}"
    if spread <= threshold:
        return GateJudged(JITTER, "passed", 100 * spread, 100 * threshold, _UNIT, text, at_most=True)
    verdict: Verdict = "failed" if acceptance.jitter == "gate" else "warning"
    return GateJudged(
        JITTER, verdict, 100 * spread, 100 * threshold, _UNIT, text,
        "something else used the machine, it ran hot, or the disk was slow: the model is as good for that", at_most=True,
    )  # fmt: skip


def windows(seconds: Sequence[float], tokens: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean seconds and mean tokens of a step, of consecutive steps that last `WINDOW_SECONDS` together; a rest is left out.

    Args:
        tokens: of each step; none where all are of one size, then none come back.
    """
    times, sizes, start, lasted = list[float](), list[float](), 0, 0.0
    for step, took in enumerate(seconds, 1):
        lasted += took
        if lasted >= WINDOW_SECONDS:
            times.append(lasted / (step - start))
            sizes += [sum(tokens[start:step]) / (step - start)] if tokens else []
            start, lasted = step, 0.0
    return times, sizes


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
