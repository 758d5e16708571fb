"""The verdict on a run in one line: what a person reads first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.runs.events import Answered, HeldOut

# Of fewer rows even all the better ones are no more than chance at 5 % (the sign test, two-sided: 2 / 2⁵ is 0.06).
FEWEST_ROWS = 6


def headline(held_out: Sequence[HeldOut], answers: Sequence[Answered]) -> str:
    """ "better on 41 of 60 test rows (p = 0.006), 2 answers better, 3 worse"; empty where there is nothing to say.

    Rows that no outcome could make more than chance of are called too few.

    Of `test` where it was measured: `val` chose the checkpoint.
    """
    parts = []
    for split in ("test", "val"):
        measured = next((each for each in held_out if each.split == split and each.better is not None), None)
        if measured:
            parts.append(_rows(measured))
            break
    if answers:
        parts.append(_answers(answers))
    return ", ".join(parts)


def _rows(measured: HeldOut) -> str:
    better, worse, count = measured.better or 0, measured.worse or 0, measured.conversations or 0
    rows = f"{count} {measured.split} {'row' if count == 1 else 'rows'}"
    if not better and not worse:
        return f"no difference on {rows}"
    if count < FEWEST_ROWS:
        return f"{rows} {'is' if count == 1 else 'are'} too few to judge: better on {better}, worse on {worse}"
    chance = f" ({p_value(measured.p_value)})" if measured.p_value is not None else ""
    return f"worse on {worse} of {rows}{chance}" if worse > better else f"better on {better} of {rows}{chance}"


def p_value(value: float) -> str:
    """`p = 0.006`, `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def change(answer: Answered) -> Literal["better", "worse", ""]:
    """Whether the tuned model alone answers well, the base model alone, or neither."""
    if bool(answer.base_reasons) == bool(answer.tuned_reasons):
        return ""
    return "better" if answer.base_reasons else "worse"


def _answers(answers: Sequence[Answered]) -> str:
    changes = [change(answer) for answer in answers]
    better, worse = changes.count("better"), changes.count("worse")
    if not better and not worse:
        return f"no answer of {len(answers)} better or worse"
    return f"{better} {'answer' if better == 1 else 'answers'} better, {worse} worse"
