"""The queue as text: what was added, the list, where it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from humigence_tui.cli.shared.output import Colour, out, table
from pipeline.common.text import duration
from pipeline.config.sweep import Assignment, short_key, text_of
from pipeline.runs import fold_cache
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import Queued, waiting

_WIDTH = 80
_COLOURS: dict[str, Colour] = {"finished": "green", "failed": "red", "crashed": "red", "gates failed": "red", "stopped": "amber"}


def as_json(queued: Queued, here: Workspace) -> dict[str, Any]:
    """A run of the queue for a program, `settings` its whole config."""
    run = queued.folder(here)
    return {
        "number": queued.number, "state": word(queued), "project": queued.project, "differs": dict(queued.differs),
        "config": queued.source, "sweep": queued.sweep, "added": queued.added, "began": queued.began, "ended": queued.ended,
        "device": queued.device, "run": queued.run, "path": str(run.path) if run else "", "waits_for": queued.waits_for,
        "exit_code": queued.exit_code, "message": queued.message, "settings": queued.config,
    }  # fmt: skip


def added_lines(added: Sequence[Queued], given: Sequence[Assignment], project: str) -> list[str]:
    """What `queue add` has made: how many runs, what differs, in which order and in which projects."""
    fixed = [(key, values[0]) for key, values in given if len(values) == 1]
    swept = [(key, values) for key, values in given if len(values) > 1]
    count = " × ".join(str(len(values)) for _, values in swept)
    runs = "1 run" if len(added) == 1 else f"{len(added)} runs"
    lines = [f"queued {runs}" + (f" ({count})" if len(swept) > 1 else "") + f", checked, from {added[0].source} as it is now"]
    lines += [f"  {key} = {', '.join(values)}" for key, values in swept]
    lines += [f"  {key} = {value} in {'it' if len(added) == 1 else 'all'}" for key, value in fixed]
    head = ("", *(short_key(key) for key, _ in swept), "project")
    rows = [(str(each.number), *(value for _, value in each.differs), each.project) for each in added]
    lines += ["", *(f"  {line}" for line in table(rows, right=(0,), head=head))]
    if swept and any(each.project != project for each in added):
        lines += ["", "Each has a project of its own: packages stay apart, and on several GPUs they run", "beside each other."]
    return lines


def word(queued: Queued) -> str:
    return queued.outcome if queued.state == "ended" else queued.state


def print_list(runs: Sequence[Queued], here: Workspace) -> None:
    """A row for each, within 80 columns."""
    rows = [(str(each.number), word(each), text_of(each.differs) or "–", each.project, _about(each, here)) for each in runs]
    number, state, *widths = (max(len(row[column]) for row in rows) for column in range(4))
    differs, project = min(widths[0], 24), min(widths[1], 24)
    left = _WIDTH - 8 - max(number, 1) - max(state, len("state")) - max(differs, len("differs")) - max(project, len("project"))
    cut = [(*row[:2], *(_cut(text, most) for text, most in zip(row[2:], (differs, project, left), strict=True))) for row in rows]
    first, *lines = table(cut, right=(0,), head=("", "state", "differs", "project", ""))
    out(first, "dim")
    for each, line in zip(runs, lines, strict=True):
        out(line, _COLOURS.get(word(each)))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _about(queued: Queued, here: Workspace) -> str:
    """`step 120 of 400`, `took 41 m 3 s`, or what it waits for."""
    if queued.state == "waiting":
        return queued.waits_for
    if queued.state == "ended":
        if queued.message and queued.exit_code:
            return queued.message.splitlines()[0]
        return f"took {duration(queued.ended - queued.began)}" if queued.began and queued.ended else ""
    run = queued.folder(here)
    summary = fold_cache.read_summary(run) if run else None
    if summary and summary.step:
        return f"step {summary.step:,} of {summary.total_steps:,}"
    return (summary.current if summary else "") or (f"for {duration(time.time() - queued.began)}" if queued.began else "")


def standing(runs: Sequence[Queued], runner: int | None) -> list[str]:
    """Where the queue stands: whether it is running, how many wait, what keeps the first of them."""
    waits, on = waiting(runs), sum(each.is_on for each in runs)
    state = f"the queue is running (process {runner})" if runner is not None else "the queue is not running"
    lines = [f"{state}: {on} on, {len(waits)} waiting, {len(runs) - on - len(waits)} ended"]
    if runner is not None and waits and waits[0].waits_for:
        lines.append(f"{waits[0].number} waits for {waits[0].waits_for}")
    return lines
