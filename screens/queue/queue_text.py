"""The queue's page as text: its columns, a row for each run, what there is to say of the one under the cursor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from pipeline.common.text import counted, duration, loss, safe
from pipeline.config.sweep import text_of
from pipeline.runs.queue import Queued, waiting
from screens.home.home_text import gates
from screens.widgets.table import Column, TableRow

if TYPE_CHECKING:
    from screens.frame.run_snapshot import RunRow

COLUMNS = (
    Column("", 1),
    Column("nr", 3, "right"),
    Column("state", 12),
    Column("differs", 18, grows=3),
    Column("project", 14, grows=2, rank=2),
    Column("steps", 11, "right", rank=3),
    Column("held-out", 8, "right"),
    Column("gates", 8, rank=1),
    Column("duration", 9, "right", rank=4),
)
_MARKS = {
    "waiting": ("·", "$dim"), "starting": ("●", ""), "running": ("●", ""), "finished": ("✔", "$success"),
    "gates failed": ("✘", "$error"), "failed": ("✘", "$error"), "crashed": ("✘", "$error"), "stopped": ("■", "$warning"),
}  # fmt: skip


def word(queued: Queued) -> str:
    return queued.outcome if queued.state == "ended" else queued.state


def row_of(queued: Queued, run: RunRow | None, now: float) -> TableRow:
    """
    Args:
        run: as the list of runs has it, once there is one.
        now: seconds since 1970.
    """
    mark, style = _MARKS[word(queued)]
    name = Content.styled(word(queued), "bold") if queued.is_on else Content.styled(word(queued), "$dim" if mark == "·" else "")
    differs = Content(safe(text_of(queued.differs))) if queued.differs else Content.styled("–", "$faint")
    return TableRow(
        queued.number,
        (
            Content.styled(mark, style), Content.styled(str(queued.number), "$dim"), name, differs,
            Content.styled(safe(queued.project), "$dim"), _steps(run), _held_out(run), gates(run) if run else Content(""),
            Content(_took(queued, now)),
        ),
    )  # fmt: skip


def _steps(run: RunRow | None) -> Content:
    if run is None or not run.summary.step:
        return Content("")
    done, total = counted(run.summary.step), counted(run.summary.total_steps)
    return Content(done) if done == total else Content.assemble(done, (f" / {total}", "$dim"))


def _held_out(run: RunRow | None) -> Content:
    best = run.summary.best_loss if run else None
    return Content(loss(best)) if best is not None else Content("")


def _took(queued: Queued, now: float) -> str:
    return duration((queued.ended or now) - queued.began) if queued.began else ""


def cells_of(runs: Sequence[Queued], runner: int | None) -> tuple[Content, ...]:
    """For the first line: whether it runs, and how many are in which state."""
    waits, on = len(waiting(runs)), sum(each.is_on for each in runs)
    state = Content.assemble("● ", ("running", "bold")) if runner is not None else Content.styled("■ not running", "$warning")
    return (state if waits or on else Content.styled("nothing waits", "$dim"), Content(f"{on} on"), Content(f"{waits} waiting"))


def about(queued: Queued, runs: Mapping[str, RunRow], runner: int | None) -> Content:
    """Two lines of the run under the cursor: why it stands where it does, and where it comes from."""
    whence = Content.styled(f"config {safe(queued.source)}, as it was {_when(queued.added)}", "$dim")
    return Content("\n").join([_why(queued, runs, runner), whence])


def _why(queued: Queued, runs: Mapping[str, RunRow], runner: int | None) -> Content:
    if queued.state == "waiting":
        if runner is None:
            return Content.assemble("waits until the queue is started: ", ("S", "bold"))
        return Content(f"waits for {safe(queued.waits_for)}" if queued.waits_for else "waits for its turn")
    if queued.state == "ended":
        said = queued.message.splitlines()
        if said:
            return Content.styled(safe(said[0]), "$error" if queued.exit_code else "")
    run = runs.get(queued.run)
    device = f" on {run.summary.device}" if run and run.summary.device else ""
    return (
        Content.assemble(("⏎", "bold"), f" opens run {safe(queued.run)}{safe(device)}")
        if queued.run
        else Content("is being started")
    )


def _when(added: float) -> str:
    at = time.localtime(added)
    today = time.strftime("%Y-%m-%d", at) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M", at) if today else time.strftime("%d %b %H:%M", at).lstrip("0")


def nothing_yet() -> Content:
    """What a person sees whose queue is empty."""
    lines = [
        Content.styled("Nothing is queued in this folder.", "bold"),
        Content(""),
        Content("Queued runs wait until a GPU is free, start by themselves, and need no terminal."),
        Content(""),
        Content.assemble(("n", "bold"), "  new run: at its plan, ", ("u", "bold"), " puts it here instead of starting it."),
        Content.styled("   From a shell, several values of a setting make a run each:", "$dim"),
        Content.styled("   humigence queue add --set train.lr=1e-4,2e-4", "$dim"),
    ]
    return Content("\n").join(lines)
