"""The queue: runs that wait for a free device, in an order that can be changed; started and stopped from here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from pipeline.common.errors import BadInput, HumigenceError
from pipeline.common.text import safe
from pipeline.config.environment import training_asked
from pipeline.config.sweep import text_of
from pipeline.runs.folders import RunFolder
from pipeline.runs.queue import Queue, Queued, waiting
from screens.frame.messages import RunQueue
from screens.frame.page import Page
from screens.frame.question import Answer, Question
from screens.queue.failure import told
from screens.queue.queue_text import COLUMNS, about, cells_of, nothing_yet, row_of
from screens.widgets.table import Table
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from screens.frame.copying import Copyable
    from screens.frame.run_snapshot import RunRow

_EVERY_S = 1.0
_MOST_COMPARED = 6


class QueueScreen(Page):
    CSS_PATH = "queue.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_run", "open", tooltip="open the run"),
        Binding("S,s", "start", "start", key_display="S", tooltip="start what waits, one run on each free GPU or one on the CPU"),
        Binding("p", "stop", "start no more", tooltip="start nothing more; what is on goes on"),
        Binding("K", "move(-1)", "sooner", tooltip="one place up among those that wait"),
        Binding("J", "move(1)", "later", tooltip="one place down among those that wait"),
        Binding("x", "remove", "take out", tooltip="take it out of the list; what its run has made stays"),
        Binding("c", "compare", "compare", tooltip="compare the runs that were queued with this one"),
        Binding("n", "new_run", "new run"),
    ]

    class Looked(Message):
        """The queue as it is now; `problem` where it can't be read."""

        def __init__(self, runs: tuple[Queued, ...], runner: int | None, problem: str = "") -> None:
            super().__init__()
            self.runs, self.runner, self.problem = runs, runner, problem

    def __init__(self) -> None:
        super().__init__()
        self.trail = ("queue",)
        self.queued: tuple[Queued, ...] = ()
        self.runner: int | None = None
        self._problem = ""
        self._rows: dict[str, RunRow] = {}

    def body(self) -> ComposeResult:
        yield Static(id="empty")
        yield Table(COLUMNS, id="queued")
        yield Static(id="about")

    def on_mount(self) -> None:
        self.query_one(Table).focus()
        self.set_interval(_EVERY_S, self._look_again)
        self._look()

    def take_runs(self, rows: tuple[RunRow, ...]) -> None:
        self._rows = {f"{row.run.project}/{row.run.run_id}": row for row in rows}
        self._show()

    # -------------------------------------------------------------------------------------------------- looking

    def _look_again(self) -> None:
        if self.is_current:
            self._look()

    def _look(self, change: Callable[[Queue], object] | None = None) -> None:
        """Read the queue in a thread, after `change`; the file may be held by another process for a moment."""
        queue = Queue(self.workspace)

        def work() -> None:
            problem = ""
            try:
                if change is not None:
                    change(queue)
            except (HumigenceError, OSError) as error:
                problem = str(told(error, queue.folder))
            try:
                looked = self.Looked(queue.read(), queue.runner(), problem)
            except (HumigenceError, OSError) as error:
                looked = self.Looked((), None, str(told(error, queue.folder)))
            self.post_message(looked)

        # A look that is overtaken is of no use; a change is made whatever follows.
        self.run_worker(work, thread=True, group="look" if change is None else "change", exclusive=change is None)

    @on(Looked)
    def _looked(self, event: Looked) -> None:
        self.queued, self.runner = event.runs, event.runner
        if event.problem and event.problem != self._problem:
            self.notify(safe(event.problem, lines=True), severity="error", timeout=10, markup=False)
        self._problem = event.problem
        self._show()

    def _show(self) -> None:
        if not self.ready:
            return
        now = time.time()
        table, empty = self.query_one(Table), self.query_one("#empty", Static)
        table.show([row_of(each, self._rows.get(each.run), now) for each in self.queued])
        table.display = bool(self.queued)
        empty.display = not self.queued
        update_text(empty, Content.styled(safe(self._problem, lines=True), "$error") if self._problem else nothing_yet())
        self.cells = cells_of(self.queued, self.runner)
        self._show_chosen()

    def on_table_moved(self) -> None:
        self._show_chosen()

    def on_table_opened(self) -> None:
        self.action_open_run()

    def _show_chosen(self) -> None:
        chosen = self.chosen
        update_text(self.query_one("#about", Static), about(chosen, self._rows, self.runner) if chosen else Content(""))
        self.refresh_bindings()

    @property
    def chosen(self) -> Queued | None:
        """The run under the cursor."""
        key = self.query_one(Table).key if self.ready else None
        return next((each for each in self.queued if each.number == key), None)

    # -------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        chosen = self.chosen
        waits = waiting(self.queued)
        allowed = {
            "open_run": chosen is not None and bool(chosen.run),
            "start": bool(self.queued) and self.runner is None and any(each.state != "ended" for each in self.queued),
            "stop": self.runner is not None,
            "move": chosen in waits and len(waits) > 1,
            "remove": chosen is not None and not chosen.is_on,
            "compare": len(self._together()) > 1,
        }
        return allowed.get(action, True)

    def _together(self) -> list[RunFolder]:
        """The runs of the sweep under the cursor, as far as they have begun; at most as many as can be compared."""
        chosen = self.chosen
        sweep = [each for each in self.queued if chosen and each.sweep == chosen.sweep]
        return [run for each in sweep if (run := each.folder(self.workspace))][:_MOST_COMPARED]

    def action_open_run(self) -> None:
        run = self.chosen.folder(self.workspace) if self.chosen else None
        if run is not None:
            self.open("run", run=run)

    def action_start(self) -> None:
        """Start what waits; asks first unless training was asked for."""
        try:
            asked, forbidden = training_asked(False), not training_asked(True)
        except BadInput as error:
            self.notify(safe(str(error), lines=True), severity="error", markup=False)
            return
        if forbidden:
            self.notify("TRAIN is set to 0, which forbids training.", severity="warning", markup=False)
        elif asked:
            self.post_message(RunQueue())
        else:
            count = len(waiting(self.queued))
            question = f"Train the {count} runs that wait?" if count != 1 else "Train the run that waits?"
            answers = (Answer("no", "not now"), Answer("train", "train"))
            self.app.push_screen(Question(question, answers), self._start)

    def _start(self, chosen: str | None) -> None:
        if chosen == "train":
            self.post_message(RunQueue())

    def action_stop(self) -> None:
        self._look(Queue.request_stop)
        self.notify("The queue starts nothing more; what is on goes on.", markup=False)

    def action_move(self, by: int) -> None:
        waits = waiting(self.queued)
        if self.chosen in waits:
            number, place = self.chosen.number, waits.index(self.chosen) + 1 + by
            self._look(lambda queue: queue.move(number, max(1, place)))

    def action_remove(self) -> None:
        chosen = self.chosen
        if chosen is None:
            return
        if chosen.state == "ended":
            self._take_out(chosen.number)
            return
        what = f" ({text_of(chosen.differs)})" if chosen.differs else ""
        answers = (Answer("no", "keep it"), Answer("out", "take it out", danger=True))

        def answered(answer: str | None) -> None:
            if answer == "out":
                self._take_out(chosen.number)

        self.app.push_screen(Question(f"Take run {chosen.number}{safe(what)} out of the queue?", answers), answered)

    def _take_out(self, number: int) -> None:
        self._look(lambda queue: queue.remove([number]))

    def action_compare(self) -> None:
        self.open("compare", runs=tuple(self._together()))

    def action_new_run(self) -> None:
        self.open("wizard")

    def copyables(self) -> list[Copyable]:
        from screens.frame.copying import Copyable

        chosen = self.chosen
        commands = [Copyable("start", "humigence queue run --train"), Copyable("compare", "humigence queue compare")]
        if chosen is None:
            return commands
        run = chosen.folder(self.workspace)
        return [Copyable("what happened", chosen.message), Copyable("folder", str(run.path) if run else ""), *commands]
