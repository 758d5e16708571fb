"""The text of the list of runs: its columns, a row for each run, a line about the one under the cursor."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from textual.content import Content

from pipeline.common.text import counted, duration, loss, safe, size
from screens.widgets.table import Column, TableRow

if TYPE_CHECKING:
    from screens.frame.run_snapshot import RunRow

COLUMNS = (
    Column("", 1),
    Column("state", 13),
    Column("project", 12, grows=2),
    Column("begun", 12, rank=3),
    Column("model", 20, grows=3, rank=5),
    Column("precision", 10, rank=6),
    Column("steps", 14, "right", rank=4),
    Column("held-out", 9, "right"),
    Column("duration", 10, "right", rank=2),
    Column("gates", 9, rank=1),
    Column("disk", 9, "right", rank=7),
)


def home_cells(rows: tuple[RunRow, ...]) -> tuple[Content, ...]:
    live = sum(row.live for row in rows)
    cells = [Content.assemble("● ", (f"{live} running", "bold"))] if live else []
    measured = [row.disk_bytes for row in rows if row.disk_bytes is not None]
    disk = f", {size(sum(measured))}" if len(measured) == len(rows) else ""
    count = Content.styled(f"{len(rows):,} run{'' if len(rows) == 1 else 's'}{disk}", "$dim") if rows else Content("")
    return (*cells, count)


def status_text(row: RunRow) -> tuple[Content, Content]:
    """Symbol and word of a run's state."""
    summary = row.summary
    if row.live:
        word = {"train": "training", "evaluate": "evaluating"}.get(summary.current, summary.current or row.status)
        return Content("●"), Content.styled(word, "bold")
    if not row.is_read:
        return Content.styled("·", "$dim"), Content.styled("being read", "$dim")
    if row.status == "finished":
        if summary.gates_failed:
            return Content.styled("✘", "$error"), Content("finished")
        if not summary.training:
            return Content.styled("·", "$dim"), Content.styled("prepared", "$dim")
        return Content.styled("✔", "$success"), Content("stopped early" if summary.stopped_early else "finished")
    if row.status == "stopped":
        return Content.styled("■", "$warning"), Content("stopped")
    return Content.styled("✘", "$error"), Content("diverged" if summary.diverged else row.status)


def row_of(row: RunRow, marked: bool, now: datetime) -> TableRow:
    summary = row.summary
    symbol, word = status_text(row)
    project = Content.assemble(("◆ ", "bold") if marked else "", safe(row.run.project))
    return TableRow(
        row.run,
        (
            symbol, word, project, Content.styled(begun(summary.started, row.run.run_id, now), "$dim"),
            Content(safe(model_name(summary.model))), Content.styled(summary.precision_mode, "$dim"), _steps(row), _held_out(row),
            _duration(row, now), gates(row),
            Content.styled(size(row.disk_bytes), "$dim") if row.disk_bytes is not None else Content(""),
        ),
    )  # fmt: skip


def _duration(row: RunRow, now: datetime) -> Content:
    """Time in steps; of a run that is on up to this second."""
    seconds, since = row.summary.busy_seconds, row.summary.busy_since
    if row.live and since is not None:
        seconds += max(0.0, now.timestamp() - since)
    return Content(duration(seconds)) if seconds else Content("")


def _steps(row: RunRow) -> Content:
    summary = row.summary
    if not summary.step:
        return Content("")
    done = counted(summary.step)
    if summary.total_steps in (0, summary.step):
        return Content(done)
    return Content.assemble(done, (f" / {counted(summary.total_steps)}", "$dim"))


def _held_out(row: RunRow) -> Content:
    if not row.is_read:
        return Content("")
    best = row.summary.best_loss
    return Content(loss(best)) if best is not None else Content.styled("–", "$faint")


def gates(row: RunRow) -> Content:
    """`3 of 3`, in the colour of the verdict; what is left to do while the run is on."""
    summary = row.summary
    judged = summary.gates_passed + summary.gates_failed
    if judged:
        symbol, style = ("✘", "$error") if summary.gates_failed else ("✔", "$success")
        return Content.assemble((f"{symbol} ", style), f"{summary.gates_passed} of {judged}")
    if row.live and summary.total_steps:
        return Content(f"{100 * summary.step / summary.total_steps:3.0f} %")
    return Content.styled("–", "$faint") if row.is_read else Content("")


def model_name(model: str) -> str:
    """`TinyLlama/TinyLlama-1.1B-Chat-v1.0` → `TinyLlama-1.1B-Chat-v1.0`."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def begun(started: float | None, run_id: str, now: datetime) -> str:
    """`09:31` today, `22 Nov 09:31` this year, `22 Nov 2024` before."""
    if started is None:  # as its name says
        try:
            at = datetime.strptime(run_id[:19], "%Y-%m-%d_%H-%M-%S")
        except ValueError:
            return run_id
    else:
        at = datetime.fromtimestamp(started)
    if at.date() == now.date():
        return at.strftime("%H:%M")
    return at.strftime("%d %b %H:%M" if at.year == now.year else "%d %b %Y").lstrip("0")


def run_description(row: RunRow) -> Content:
    """One line about the run under the cursor: what matters of it, or what to do."""
    summary = row.summary
    if row.live:
        expected, now = summary.expected, time.time()
        left = "   ".join([*filter(None, (expected.left_text(now), expected.done_text(now))), ""]) if expected else ""
        rate = f"{counted(summary.tokens_per_second)} tok/s   " if summary.tokens_per_second else ""
        return Content.assemble((" ⏎", "bold"), f" attaches   {left}{rate}", (safe(summary.device), "$dim"))
    if row.status == "crashed":
        where = f"from step {counted(summary.saved_step)}" if summary.saved_step is not None else "from the beginning"
        return Content.assemble((" its process is gone", "$error"), "   ", ("r", "bold"), f" resumes {where}")
    if summary.error:
        return Content.assemble(" ", (safe(summary.error), "$error"))
    if row.status == "stopped" and summary.saved_step is not None:
        lost = summary.step - summary.saved_step
        how = "stopped and saved" if lost <= 0 else f"stopped {counted(lost)} step{'s' * (lost > 1)} after its last checkpoint"
        return Content.assemble(f" {how}   ", ("r", "bold"), f" resumes from step {counted(summary.saved_step)}")
    return Content.styled(f" {safe(str(row.run.path))}", "$dim")


def nothing_yet() -> Content:
    """What a person sees who has no run yet."""
    begin = (("n", "bold"), "  new run: GPU, model, data; what fits is said before anything starts.")
    lines = [
        Content.styled("No runs in this folder yet.", "bold"),
        Content(""),
        Content("A run takes a small language model and a file of conversations,"),
        Content("trains an adapter on your GPU, tests it, and packs it."),
        Content(""),
        Content.assemble(*begin),
        Content.styled("   The bundled demo (12 rows) is through in minutes, on a CPU too.", "$dim"),
        Content(""),
        Content.assemble(("?", "bold"), "  every key      ", ("^p", "bold"), "  every command by its name"),
    ]
    return Content("\n").join(lines)
