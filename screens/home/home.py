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

from pipeline.runs.folders import RunFolder
from screens.frame.messages import Follow, ResumeRun
from screens.frame.page import Page
from screens.home.home_text import COLUMNS, home_cells, nothing_yet, row_of, run_description
from screens.run.gpu_panel import GpuPanel
from screens.widgets.table import Table
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from textual.timer import Timer

    from screens.frame.copying import Copyable
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import RunRow, Snapshot
    from screens.home.run_preview import RunPreview

_TICK_S = 2.0
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
        Binding("u", "queue", "queue", tooltip="runs that wait for a free GPU"),
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
        yield Table(COLUMNS, id="runs")
        yield Static(id="about")
        yield Container(id="preview")
        yield GpuPanel(classes="-line", id="gpu-line")

    def on_mount(self) -> None:
        self.query_one(Table).focus()
        self.set_interval(_TICK_S, self._tick)

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
            from screens.home.run_preview import RunPreview

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
        self.query_one(Table).styles.height = len(self.runs or ()) + 2 if previewing else "1fr"

    # ------------------------------------------------------------------------------------------------------- list

    def watch_runs(self) -> None:
        self._show()

    def _tick(self) -> None:
        """The time of runs that are on goes on while nothing comes of them."""
        if self.is_current and any(run.live for run in self.runs or ()):
            self._show()

    def watch_marked(self) -> None:
        self._show()

    def _show(self) -> None:
        if self.runs is None:
            return
        now = datetime.now()
        self.query_one(Table).show([row_of(run, run.run in self.marked, now) for run in self.runs])
        self.query_one(Table).display = bool(self.runs)
        empty = self.query_one("#empty", Static)
        empty.display = not self.runs
        update_text(empty, nothing_yet())
        self.cells = home_cells(self.runs)
        self.set_class(self.has_class("-previewing") and bool(self.runs), "-previewing")
        self._set_height()
        self._show_chosen()

    def on_table_moved(self) -> None:
        self._show_chosen()
        self._follow_later()

    def _show_chosen(self) -> None:
        chosen = self.chosen
        update_text(self.query_one("#about", Static), run_description(chosen) if chosen else Content(""))
        self.refresh_bindings()

    def on_table_opened(self) -> None:
        self.action_open_run()

    @property
    def chosen(self) -> RunRow | None:
        """The run under the cursor."""
        key = self.query_one(Table).key if self.ready else None
        return next((row for row in self.runs or () if row.run == key), None)

    # ---------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        chosen = self.chosen
        allowed = {
            "open_run": chosen is not None,
            "resume": chosen is not None and chosen.resumable,
            "results": chosen is not None and _has_results(chosen),
            "mark": chosen is not None,
            "compare": chosen is not None,
            "chat": chosen is not None and chosen.status == "finished" and chosen.summary.step > 0,
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
            self.query_one(Table).action_move(1)

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

    def copyables(self) -> list[Copyable]:
        from screens.frame.copying import Copyable, of_run

        if self.chosen is None:
            return [Copyable("folder", str(self.workspace.root))]
        return [*of_run(self.chosen.run), Copyable("error", self.chosen.summary.error)]

    def action_queue(self) -> None:
        self.open("queue")

    def action_doctor(self) -> None:
        self.open("doctor")


def _has_results(row: RunRow) -> bool:
    summary = row.summary
    return bool(summary.gates_passed + summary.gates_failed + summary.gates_open)
