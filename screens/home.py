"""Home: the runs of all projects, the live ones on top, and what can be begun."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from pipeline.folders import RunFolder
from pipeline.text import counted, duration, loss, safe, size
from screens import names
from screens.base import Page
from screens.messages import Follow, ResumeRun
from screens.widgets.gpu_panel import GpuPanel
from screens.widgets.rows import Column, Row, Rows
from screens.widgets.telling import tell

if TYPE_CHECKING:
    from textual.timer import Timer

    from screens.machine import Machine
    from screens.snapshot import RunRow, Snapshot
    from screens.widgets.run_preview import RunPreview

_COLUMNS = (
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


_SETTLES_S = 0.15


class HomeScreen(Page):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_run", "open"),
        Binding("n", "new_run", "new run"),
        Binding("r", "resume", "resume", tooltip="go on with this run from its newest checkpoint"),
        Binding("v", "results", "results", tooltip="results: gates, answers, artifacts"),
        Binding("space", "mark", "mark", tooltip="mark for comparison"),
        Binding("c", "compare", "compare", tooltip="compare the marked runs"),
        Binding("t", "chat", "chat", tooltip="talk to the result of this run"),
        Binding("i", "data", "data", tooltip="the rows of this run's data, as the model sees them"),
        Binding("d", "doctor", "doctor", tooltip="what this machine has, what is missing"),
        Binding("q", "app.leave", "quit"),
        Binding("escape", "unmark", "unmark all", show=False),
    ]

    runs: var[tuple[RunRow, ...] | None] = var(None)
    marked: var[frozenset[RunFolder]] = var(frozenset())

    _machine: Machine | None = None
    _settling: Timer | None = None

    def body(self) -> ComposeResult:
        yield Static(id="empty")
        yield Rows(_COLUMNS, id="runs")
        yield Static(id="about")
        yield Container(id="preview")
        yield GpuPanel(classes="-line", id="gpu-line")

    def on_mount(self) -> None:
        self.query_one(Rows).focus()

    def take_runs(self, rows: tuple[RunRow, ...]) -> None:
        self.runs = rows

    def take_machine(self, machine: Machine) -> None:
        self._machine = machine
        self.query_one("#gpu-line", GpuPanel).machine = machine
        for preview in self._preview():
            preview.take_machine(machine)

    # ---------------------------------------------------------------------------------- the run under the cursor

    def _preview(self) -> list[RunPreview]:
        """The one there is, or none yet."""
        return cast("list[RunPreview]", list(self.query_one("#preview").children))

    @property
    def _has_room(self) -> bool:
        return self.has_class("-high")

    def on_screen_resume(self) -> None:
        self._follow_later()

    def on_resize(self) -> None:
        self._follow_later()
        self.call_after_refresh(self._set_height)

    def _follow_later(self) -> None:
        # Holding a key down must not read the log of every run it passes.
        if self._settling:
            self._settling.stop()
        self._settling = self.set_timer(_SETTLES_S, self._follow_chosen)

    def _follow_chosen(self) -> None:
        if self.chosen and self._has_room and self.is_current:
            self.post_message(Follow(self.chosen.run))

    def take_snapshot(self, snapshot: Snapshot) -> None:
        if self.chosen is None or snapshot.run != self.chosen.run or not self._has_room:
            return
        if not self._preview():
            from screens.widgets.run_preview import RunPreview

            self.query_one("#preview").mount(RunPreview())
        for preview in self._preview():
            preview.snapshot = snapshot
            if self._machine and preview.is_mounted:
                preview.take_machine(self._machine)
        self.set_class(True, "-previewing")
        self._set_height()

    def _set_height(self) -> None:
        """The list is as high as it needs, what is left is the preview's; without one it has it all."""
        previewing = self.has_class("-previewing") and self._has_room
        self.query_one(Rows).styles.height = len(self.runs or ()) + 2 if previewing else "1fr"

    # ------------------------------------------------------------------------------------------------------- list

    def watch_runs(self) -> None:
        self._show()

    def watch_marked(self) -> None:
        self._show()

    def _show(self) -> None:
        if self.runs is None:
            return
        now = datetime.now()
        self.query_one(Rows).show([row_of(run, run.run in self.marked, now) for run in self.runs])
        self.query_one(Rows).display = bool(self.runs)
        empty = self.query_one("#empty", Static)
        empty.display = not self.runs
        tell(empty, nothing_yet(names.exists("wizard")))
        self.cells = home_cells(self.runs)
        self.set_class(self.has_class("-previewing") and bool(self.runs), "-previewing")
        self._set_height()
        self._tell_of_chosen()

    def on_rows_moved(self) -> None:
        self._tell_of_chosen()
        self._follow_later()

    def _tell_of_chosen(self) -> None:
        chosen = self.chosen
        tell(self.query_one("#about", Static), about(chosen) if chosen else Content(""))
        self.refresh_bindings()

    def on_rows_opened(self) -> None:
        self.action_open_run()

    @property
    def chosen(self) -> RunRow | None:
        """The run under the cursor."""
        key = self.query_one(Rows).key if self.ready else None
        return next((row for row in self.runs or () if row.run == key), None)

    # ---------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        chosen = self.chosen
        allowed = {
            "open_run": chosen is not None,
            "new_run": names.exists("wizard"),
            "resume": chosen is not None and chosen.resumable,
            "results": chosen is not None and _has_results(chosen),
            "mark": chosen is not None,
            "compare": chosen is not None,
            "chat": names.exists("chat") and chosen is not None and chosen.status == "finished" and chosen.summary.step > 0,
            "data": names.exists("data"),
            "doctor": names.exists("doctor"),
            "unmark": True,
            "back": False,
        }
        return allowed.get(action, True)

    def action_open_run(self) -> None:
        if self.chosen:
            self.open("run", run=self.chosen.run)

    def action_results(self) -> None:
        if self.chosen:
            self.open("results", run=self.chosen.run)

    def action_new_run(self) -> None:
        self.open("wizard")

    def action_resume(self) -> None:
        if self.chosen:
            self.post_message(ResumeRun(self.chosen.run))

    def action_mark(self) -> None:
        if self.chosen:
            self.marked = self.marked ^ {self.chosen.run}
            self.query_one(Rows).action_move(1)

    def action_unmark(self) -> None:
        self.marked = frozenset()

    def action_compare(self) -> None:
        """The marked runs, or the one under the cursor and the one after it."""
        runs = self.runs or ()
        order = [row.run for row in runs if row.run in self.marked]
        if self.chosen and self.chosen.run not in order:
            order.append(self.chosen.run)
        if len(order) == 1:
            order += [row.run for row in runs if row.run.project == order[0].project and row.run != order[0]][:1]
        self.open("compare", runs=tuple(order))

    def action_chat(self) -> None:
        if self.chosen:
            self.open("chat", run=self.chosen.run)

    def action_data(self) -> None:
        """The rows of the run under the cursor; without one, those of the config."""
        self.open("data", **({"config": self.chosen.run.load_config()} if self.chosen else {}))

    def action_doctor(self) -> None:
        self.open("doctor")


def _has_results(row: RunRow) -> bool:
    summary = row.summary
    return bool(summary.gates_passed + summary.gates_failed + summary.gates_open)


def home_cells(rows: tuple[RunRow, ...]) -> tuple[Content, ...]:
    live = sum(row.live for row in rows)
    cells = [Content.assemble("● ", (f"{live} running", "bold"))] if live else []
    measured = [row.disk_bytes for row in rows if row.disk_bytes is not None]
    disk = f", {size(sum(measured))}" if len(measured) == len(rows) else ""
    count = Content.styled(f"{len(rows):,} run{'' if len(rows) == 1 else 's'}{disk}", "$dim") if rows else Content("")
    return (*cells, count)


def status_of(row: RunRow) -> tuple[Content, Content]:
    """Symbol and word of a run's state."""
    summary = row.summary
    if row.live:
        word = {"train": "training", "evaluate": "evaluating"}.get(summary.current, summary.current or row.status)
        return Content("●"), Content.styled(word, "bold")
    if row.status == "finished":
        if summary.gates_failed:
            return Content.styled("✘", "$error"), Content("finished")
        if not summary.training:
            return Content.styled("·", "$dim"), Content.styled("prepared", "$dim")
        return Content.styled("✔", "$success"), Content("stopped early" if summary.stopped_early else "finished")
    if row.status == "stopped":
        return Content.styled("■", "$warning"), Content("stopped")
    return Content.styled("✘", "$error"), Content("diverged" if summary.diverged else row.status)


def row_of(row: RunRow, marked: bool, now: datetime) -> Row:
    summary = row.summary
    symbol, word = status_of(row)
    project = Content.assemble(("◆ ", "bold") if marked else "", safe(row.run.project))
    return Row(
        row.run,
        (
            symbol, word, project, Content.styled(begun(summary.started, row.run.run_id, now), "$dim"),
            Content(safe(model_name(summary.model))), Content.styled(summary.precision_mode, "$dim"), _steps(row), _held_out(row),
            Content(duration(summary.busy_seconds)) if summary.busy_seconds else Content(""), gates(row),
            Content.styled(size(row.disk_bytes), "$dim") if row.disk_bytes is not None else Content(""),
        ),
    )  # fmt: skip


def _steps(row: RunRow) -> Content:
    summary = row.summary
    if not summary.step:
        return Content("")
    done = counted(summary.step)
    if summary.total_steps in (0, summary.step):
        return Content(done)
    return Content.assemble(done, (f" / {counted(summary.total_steps)}", "$dim"))


def _held_out(row: RunRow) -> Content:
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
    return Content.styled("–", "$faint")


def model_name(model: str) -> str:
    """`TinyLlama/TinyLlama-1.1B-Chat-v1.0` → `TinyLlama-1.1B-Chat-v1.0`."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def begun(started: float | None, run_id: str, now: datetime) -> str:
    """`09:31` today, `22 Nov 09:31` this year, `22 Nov 2024` before."""
    if started is None:
        return run_id[:16].replace("_", " ")
    at = datetime.fromtimestamp(started)
    if at.date() == now.date():
        return at.strftime("%H:%M")
    return at.strftime("%d %b %H:%M" if at.year == now.year else "%d %b %Y").lstrip("0")


def about(row: RunRow) -> Content:
    """One line about the run under the cursor: what matters of it, or what to do."""
    summary = row.summary
    if row.live:
        left = (
            f"{duration(summary.seconds_left)} left   " if summary.seconds_left is not None and summary.current == "train" else ""
        )
        rate = f"{counted(summary.tokens_per_second)} tok/s   " if summary.tokens_per_second else ""
        return Content.assemble((" ⏎", "bold"), f" attaches   {left}{rate}", (safe(summary.device), "$dim"))
    if row.status == "crashed":
        where = f"from step {counted(summary.saved_step)}" if summary.saved_step is not None else "from the beginning"
        return Content.assemble((" its process is gone", "$error"), "   ", ("r", "bold"), f" resumes {where}")
    if summary.error:
        return Content.assemble(" ", (safe(summary.error), "$error"))
    if row.status == "stopped" and summary.saved_step is not None:
        return Content.assemble(" stopped and saved   ", ("r", "bold"), f" resumes from step {counted(summary.saved_step)}")
    return Content.styled(f" {safe(str(row.run.path))}", "$dim")


def nothing_yet(has_wizard: bool) -> Content:
    """What a person sees who has no run yet."""
    begin = (("n", "bold"), "  new run: choose a GPU, a model, your data. It says what fits before anything starts.")
    lines = [
        Content.styled("No runs in this folder yet.", "bold"),
        Content(""),
        Content("A run takes a small language model and a file of conversations,"),
        Content("trains an adapter on your GPU, tests it, and packs it."),
        Content(""),
        Content.assemble(*begin) if has_wizard else Content.assemble(("humigence pipeline --train", "bold"), "  starts one."),
        Content.styled("   The bundled demo (12 rows) is through in minutes, on a CPU too.", "$dim"),
        Content(""),
        Content.assemble(("?", "bold"), "  every key      ", ("^p", "bold"), "  every command by its name"),
    ]
    return Content("\n").join(lines)
