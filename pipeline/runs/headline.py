"""The verdict on a run in one line: what a person reads first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.runs.events import Answered, HeldOut, SuiteMeasured, SuiteVerdict

# Of fewer rows even all the better ones are no more than chance at 5 % (the sign test, two-sided: 2 / 2⁵ is 0.06).
FEWEST_ROWS = 6


def headline(held_out: Sequence[HeldOut], answers: Sequence[Answered], suites: Sequence[SuiteMeasured] = ()) -> str:
    """ "better on 41 of 60 test rows (p = 0.006), 2 answers better, 3 worse; arithmetic fell"; empty where nothing was measured.

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
    return "; ".join(filter(None, [", ".join(parts), forgetting(suites)]))


def forgetting(suites: Sequence[SuiteMeasured]) -> str:
    """ "arithmetic fell", "6 of 8 suites held"; empty where none was measured."""
    if fell := [suite_title(each.suite) for each in suites if each.verdict == "fell"]:
        return f"{' and '.join(filter(None, [', '.join(fell[:-1]), fell[-1]]))} fell"
    held = sum(each.verdict == "held" for each in suites)
    return f"{held} of {len(suites)} {'suite' if len(suites) == 1 else 'suites'} held" if suites else ""


def suite_title(name: str) -> str:
    """A suite's name as people read it: `common sense`, `JSON`."""
    return "JSON" if name == "json" else name.replace("_", " ") if name.isidentifier() else name


SUITE_MARKS: dict[SuiteVerdict, str] = {"fell": "✘", "held": "✔", "not enough evidence": "·", "not informative": "·"}


def suite_value(suite: SuiteMeasured, value: float) -> str:
    """`60.2 %` of the answers right; else what the suite measures, in four digits."""
    return f"{value:.4g}" if suite.measure else f"{100 * value:.1f} %"


def suite_chance(suite: SuiteMeasured) -> str:
    """What somebody gets right who knows nothing: `25 %`; a dash where that is not known."""
    return "–" if suite.chance is None else f"{100 * suite.chance:.0f} %"


def _rows(measured: HeldOut) -> str:
    better, worse, count = measured.better or 0, measured.worse or 0, measured.conversations or 0
    rows = f"{count} {measured.split} {'row' if count == 1 else 'rows'}"
    if not better and not worse:
        return f"no difference on {rows}"
    if count < FEWEST_ROWS:
        return f"{rows} {'is' if count == 1 else 'are'} too few to judge: better on {better}, worse on {worse}"
    chance = f" ({p_value(measured.p_value)})" if measured.p_value is not None else ""
    if worse > better:
        return f"worse on {worse} of {rows}{chance}"
    return f"better on {better} of {rows}{chance}{f' {measured.against}' if measured.against else ''}"


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
