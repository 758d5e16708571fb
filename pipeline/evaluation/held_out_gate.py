"""Whether the tuned model's loss on rows it has never seen is lower, and by so much, beyond chance."""

from __future__ import annotations

import math
from typing import Any, Literal

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.evidence import Evidence
from pipeline.runs.events import GateJudged, Verdict
from pipeline.runs.headline import p_value

HELD_OUT = "held-out loss"
Against = Literal["", "in style only", "and less to the question"]
_UNIT = "%"  # of the base model's loss


def judge_held_out(evidence: Evidence, acceptance: AcceptanceSection) -> GateJudged:
    """Passed only where the lower bound of the gain clears the threshold and the answers belong to their questions."""
    threshold = acceptance.min_val_improvement_pct
    if evidence.judged is None:
        return _verdict("not judged", None, threshold, *_nothing_measured(evidence.val))
    figures, by = evidence.judged, evidence.judged["paired"]
    if by is None:
        broken = "base" if figures["base_loss"] is None else "tuned"
        text = f"the {broken} model's held-out loss is not a finite number"
        return _verdict("failed", None, threshold, text, "lower train.lr and train again")
    value = by["gain_pct"]
    if missing := _missing(by, acceptance):
        few = by["conversations"] == 1
        rows = f"{by['conversations']} {figures['split']} row{'' if few else 's'}"
        found = f"{rows} with {by['text_tokens']:,} tokens of text {'says' if few else 'say'} too little"
        return _verdict("not judged", None, threshold, f"{found}: {missing[0]}", missing[1])
    text = _measured(figures["split"], by)
    if not by["better"] and not by["worse"]:
        return _verdict("failed", value, threshold, "no difference: " + text, "train longer or raise train.lr")
    if value < threshold:
        advice = "train longer or raise train.lr" if value >= 0 else "it got worse: lower train.lr or train.epochs, or add rows"
        return _verdict("failed", value, threshold, text, advice)
    if by["gain_low_pct"] < threshold:
        return _verdict(
            "not judged", value, threshold, text + "; so small a gain may be chance", _rows_that_would_do(by, threshold)
        )
    if acceptance.moved_answers and (moved := _moved(figures.get("control"))):
        verdict, why, action = moved
        return _verdict(verdict, value, threshold, f"{text}; {why}", action)
    return _verdict("passed", value, threshold, text)


def _verdict(verdict: Verdict, value: float | None, threshold: float, text: str, action: str = "") -> GateJudged:
    return GateJudged(HELD_OUT, verdict, value, threshold, _UNIT, text, action)


def _nothing_measured(val: dict[str, Any] | None) -> tuple[str, str]:
    if val is None:
        return (
            "no held-out rows, so nothing to measure on",
            "give data.split.test a share, add rows, or name some in data.test_path",
        )
    return "an older version measured the rows together, not each by itself", "humigence eval measures them again"


def _missing(by: dict[str, Any], acceptance: AcceptanceSection) -> tuple[str, str] | None:
    """(what is missing, what would give it); None where there is evidence enough."""
    rows, tokens = acceptance.least_rows, acceptance.least_tokens
    if by["conversations"] >= rows and by["text_tokens"] >= tokens:
        return None
    wanted = max(rows, math.ceil(tokens * by["conversations"] / max(1, by["text_tokens"])))
    return (
        f"{rows} rows and {tokens:,} tokens are needed",
        f"about {wanted} held-out rows would do: more rows, a larger data.split.test, or rows of your own in data.test_path",
    )


def _measured(split: str, by: dict[str, Any]) -> str:
    chose = " (which also chose the checkpoint: there is no test split)" if split == "val" else ""
    losses = f"loss {by['base_text_loss']:.4f} before, {by['tuned_text_loss']:.4f} after"
    sure, chance = f"{100 * (1 - by['level']):.0f} % confidence", p_value(by["p_value"])
    text = (
        f"text of {by['conversations']} {split} rows{chose}, {by['text_tokens']:,} tokens: {losses}; lower on {by['better']}, "
        f"higher on {by['worse']} ({chance}); the gain is {_percent(by['gain_low_pct'])} or more at {sure}"
    )
    if not by["template_tokens"]:
        return text
    template = f"{by['template_tokens']:,} tokens of the template: {by['base_template_loss']:.4f} before"
    return f"{text}; apart from it {template}, {by['tuned_template_loss']:.4f} after"


def _percent(value: float) -> str:
    return f"{value:.1f} %".replace("-", "−")


def _rows_that_would_do(by: dict[str, Any], threshold: float) -> str:
    """A bound's distance shrinks with the root of the number of rows."""
    distance, room = by["gain_pct"] - by["gain_low_pct"], by["gain_pct"] - threshold
    if room <= 0.05 * distance:
        return "train longer or raise train.lr: no number of rows tells so small a gain from none"
    rows = math.ceil(by["conversations"] * (distance / room) ** 2)
    return f"about {rows:,} held-out rows would tell (a larger data.split.test); or train longer"


def _moved(control: dict[str, Any] | None) -> tuple[Verdict, str, str] | None:
    """What the answers under other questions say against the gain; None where nothing."""
    if control is None:
        return None
    look = (
        "look whether the answers belong to their questions (humigence data); where they need not, acceptance.moved_answers false"
    )
    before, after = control["base_use"], control["tuned_use"]
    against = speaks_against(control)
    if against == "in style only":
        text = f"but answers are no likelier under their own questions than under others ({after:+.3f} nats a token): it is style"
        return "not judged", text, look
    if against:
        text = f"but an answer gains less from its own question than before ({before:.3f} nats a token before, {after:.3f} after)"
        return "failed", text, look
    return None


def speaks_against(control: dict[str, Any] | None) -> Against:
    """What the control says against a gain; "" where nothing, or where it was not measured.

    Args:
        control: as `moved_answers.control` gives it.
    """
    if control is None:
        return ""
    if control["tuned_use_low"] <= 0:
        return "in style only"
    fell = control["use_change_high"] < 0 and control["tuned_use"] < control["base_use"] / 2
    return "and less to the question" if fell else ""
