"""What is known to go wrong with runs that are to be queued, now instead of in the night."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError, MissingArtifact
from pipeline.config.sweep import Point, text_of
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import validate


def require_sound(here: Workspace, points: Sequence[Point]) -> None:
    """Everything that `humigence validate` looks at, of each run; a problem that all share is told once.

    Raises:
        BadInput, EnvironmentFault, MissingArtifact: the problems, and the runs that have them.
    """
    found: dict[str, tuple[HumigenceError, list[Point]]] = {}
    for point in points:
        try:
            validate.run(StepContext(point.config, here))
        except HumigenceError as error:
            found.setdefault(str(error), (error, []))[1].append(point)
    if not found:
        return
    (first, concerned), *more = found.values()
    if not more and len(concerned) == len(points):
        raise first
    raise _all_of(list(found.values()), points)


def _all_of(found: Sequence[tuple[HumigenceError, list[Point]]], points: Sequence[Point]) -> HumigenceError:
    """One error for all: bad input if there is any, since that is mended first."""
    classes: tuple[type[HumigenceError], ...] = (BadInput, EnvironmentFault, MissingArtifact, HumigenceError)
    kind = next(each for each in classes if any(isinstance(problem, each) for problem, _ in found))
    lines = [f"  {_whose(each, points)}: {_indented(problem)}" for problem, each in found]
    count = sum(len(each) for _, each in found)
    return kind(
        f"nothing is queued: {count} of {len(points)} runs can't be started\n" + "\n".join(lines),
        "mend these, or leave out those values",
    )


def _whose(concerned: Sequence[Point], points: Sequence[Point]) -> str:
    return "all" if len(concerned) == len(points) else "; ".join(text_of(each.differs) for each in concerned)


def _indented(problem: HumigenceError) -> str:
    return str(problem).replace("\n", "\n  ")
