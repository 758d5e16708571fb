"""The run under the cursor of a list: how far it is, its curve, the machine. Wants room, and numpy: made when there is both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from screens.charts.chart import Chart
from screens.run import curves
from screens.run.gpu_panel import GpuPanel
from screens.run.run import run_facts
from screens.run.step_list import StepList
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import Snapshot


class RunPreview(Horizontal):
    """Shows the newest `snapshot` it is given, of whichever run."""

    DEFAULT_CSS = """
    RunPreview > Chart { width: 1fr; }
    RunPreview > #preview-left { width: 28; padding: 0 1; }
    RunPreview #preview-facts { height: auto; margin-top: 1; }
    RunPreview > GpuPanel { width: 38; padding: 0 1; }
    """

    snapshot: var[Snapshot | None] = var(None)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._curves = curves.Curves()

    def compose(self) -> ComposeResult:
        with Vertical(id="preview-left"):
            yield StepList(id="preview-steps")
            yield Static(id="preview-facts")
        yield Chart(id="preview-chart")
        yield GpuPanel(id="preview-gpu")

    def on_mount(self) -> None:
        self._show()

    def watch_snapshot(self) -> None:
        if self.is_mounted:
            self._show()

    def _show(self) -> None:
        snapshot = self.snapshot
        if snapshot is None or not self.is_attached:
            return
        self.query_one(StepList).snapshot = snapshot
        update_text(self.query_one("#preview-facts", Static), run_facts(snapshot) or Content(""))
        self.query_one(GpuPanel).pid = snapshot.pid
        chart = self.query_one(Chart)
        chart.panels = self._curves.panels(snapshot, curves.SMOOTHINGS[0], False, ())
        chart.limits = curves.limits(snapshot)

    def take_machine(self, machine: Machine) -> None:
        self.query_one(GpuPanel).machine = machine
