"""What the steps of a run found that does not train: where a run that trains has its curve."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from textual.content import Content

from pipeline.common.text import safe
from screens.frame.run_snapshot import Snapshot, StepView
from screens.run.step_list import mark

_NAMES = 12


def has_no_curve(snapshot: Snapshot) -> bool:
    """Whether there is nothing to draw now or later."""
    return not snapshot.state.training and not len(snapshot.columns.step)


def findings(snapshot: Snapshot, width: int) -> Content:
    """A line a step with what it found, then what they warned of, then what the run was not asked for."""
    lines = list(_lines(snapshot, max(20, width)))
    return Content("\n").join(lines)


def _lines(snapshot: Snapshot, width: int) -> Iterator[Content]:
    begun = [step for step in snapshot.steps if step.running or step.outcome not in (None, "skipped")]
    for step in begun:
        yield from _found(step, snapshot, width)
    for line in snapshot.log:
        if line.level == "warning":
            yield from _wrapped(("! ", "$warning"), line.text, width, "$warning")
    if not snapshot.live and snapshot.status == "finished":
        yield Content("")
        yield Content.styled("nothing was trained: training was not asked for", "$dim")


def _found(step: StepView, snapshot: Snapshot, width: int) -> Iterator[Content]:
    said = safe(step.summary) or ("" if not step.running else "…")
    first, *more = textwrap.wrap(said, max(10, width - _NAMES - 2)) or [""]
    yield Content.assemble(mark(step, snapshot), " ", (f"{step.name:<{_NAMES}}", "bold"), first)
    for line in more:
        yield Content(" " * (_NAMES + 2) + line)


def _wrapped(sign: tuple[str, str], text: str, width: int, style: str) -> Iterator[Content]:
    for number, line in enumerate(textwrap.wrap(safe(text), max(10, width - 2))):
        yield Content.assemble(sign if number == 0 else "  ", (line, style))
