"""The verdict in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.runs.events import Answered, HeldOut, SuiteMeasured, SuiteVerdict
from pipeline.runs.headline import headline

OLDER = HeldOut("test", 60, 6000, 2.0, 1.8, 0.5, 0.6)
MEASURED = replace(OLDER, conversations=60, better=41, worse=19, p_value=0.0062)


def answered(base: bool, tuned: bool) -> Answered:
    return Answered("p", "b", "t", () if base else ("it is empty",), () if tuned else ("it is empty",))


@pytest.mark.parametrize(
    ("held_out", "line"),
    [
        ([MEASURED], "better on 41 of 60 test rows (p = 0.006)"),
        ([replace(MEASURED, better=19, worse=41)], "worse on 41 of 60 test rows (p = 0.006)"),
        ([replace(MEASURED, better=0, worse=0, p_value=1.0)], "no difference on 60 test rows"),
        ([replace(MEASURED, split="val", p_value=1e-9)], "better on 41 of 60 val rows (p < 0.001)"),
        ([replace(MEASURED, split="val", better=1), MEASURED], "better on 41 of 60 test rows (p = 0.006)"),
        (
            [replace(MEASURED, conversations=1, better=1, worse=0, p_value=1.0)],
            "1 test row is too few to judge: better on 1, worse on 0",
        ),
        (
            [replace(MEASURED, conversations=5, better=3, worse=2, p_value=1.0)],
            "5 test rows are too few to judge: better on 3, worse on 2",
        ),
        ([replace(MEASURED, conversations=6, better=6, worse=0, p_value=0.03125)], "better on 6 of 6 test rows (p = 0.031)"),
        ([replace(MEASURED, against="in style only")], "better on 41 of 60 test rows (p = 0.006) in style only"),
        ([replace(MEASURED, better=19, worse=41, against="in style only")], "worse on 41 of 60 test rows (p = 0.006)"),
        ([OLDER], ""),
        ([], ""),
    ],
)
def test_the_rows_are_those_of_test_where_it_was_measured(held_out: list[HeldOut], line: str) -> None:
    assert headline(held_out, []) == line


def test_answers_are_better_or_worse_than_the_base_models() -> None:
    answers = [answered(False, True), answered(True, False), answered(True, False), answered(True, True), answered(False, False)]
    assert headline([], answers) == "1 answer better, 2 worse"
    assert headline([MEASURED], answers[3:]).endswith(", no answer of 2 better or worse")


def suite(name: str, verdict: SuiteVerdict) -> SuiteMeasured:
    return SuiteMeasured(name, 100, 0.62, 0.41, 3, 24, 0.001, verdict)


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        ({"arithmetic": "fell", "facts": "held"}, "arithmetic fell"),
        ({"arithmetic": "fell", "facts": "held", "json": "fell", "tool_calls": "fell"}, "arithmetic, JSON and tool calls fell"),
        ({"facts": "held", "reading": "held", "json": "not informative"}, "2 of 3 suites held"),
        ({"lm-eval:arc_easy": "fell"}, "lm-eval:arc_easy fell"),
        ({"facts": "not enough evidence"}, "0 of 1 suite held"),
        ({}, ""),
    ],
)
def test_suites_that_fell_are_named_last_and_those_that_held_are_counted(verdicts: dict[str, SuiteVerdict], line: str) -> None:
    suites = [suite(name, verdict) for name, verdict in verdicts.items()]
    assert headline([], [], suites) == line
    answers = [answered(False, True), answered(True, False)]
    whole = "better on 41 of 60 test rows (p = 0.006), 1 answer better, 1 worse"
    assert headline([MEASURED], answers, suites) == (f"{whole}; {line}" if line else whole)
