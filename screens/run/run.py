"""A run while it is on, and after: its steps, its curves, the machine, what the model answers, and the log."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from pipeline.common.text import counted, loss, size
from pipeline.runs.events import LayersProved, MemoryRanOut, StopMode
from pipeline.runs.folders import RunFolder
from screens.charts.chart import Chart
from screens.frame.messages import Follow, ResumeRun, StopRun
from screens.frame.question import Answer, Question
from screens.run import curves
from screens.run.chart_page import ChartPage
from screens.run.findings import findings, has_no_curve
from screens.run.gpu_panel import GpuPanel
from screens.run.log_view import LogView
from screens.run.run_text import banner, state_cells
from screens.run.samples import SamplesPane
from screens.run.step_list import StepList, phase_seconds, progress_lines
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from screens.frame.copying import Copyable
    from screens.frame.machine_snapshot import Machine
    from screens.frame.run_snapshot import Snapshot

_PANES = ("samples", "log", "machine")
_FACTS_WIDTH = 25
_COPIED_LINES = 50


class RunScreen(ChartPage):
    """Follows `run` from the moment it is opened."""

    CSS_PATH = "run.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "stop…", tooltip="stop and save, or abort: asks first"),
        Binding("R", "resume", "resume", tooltip="go on from the newest checkpoint"),
        Binding("enter,v", "results", "results", key_display="⏎", tooltip="results: gates, answers, artifacts"),
        Binding("d", "detach", "detach", tooltip="detach: back to the runs, this one goes on"),
        Binding("t", "chat", "chat"),
        Binding("c", "compare", "compare", tooltip="compare with other runs"),
        Binding("tab", "next_pane", "panes", tooltip="next pane: samples, log, machine"),
        Binding("slash", "search", "search", tooltip="search the log"),
        Binding("f", "filter", "filter", tooltip="log: events, warnings, what libraries print"),
        Binding("n", "find(1)", "next match", show=False),
        Binding("N", "find(-1)", "previous match", show=False),
        Binding("G", "follow", "follow the log", show=False),
    ]

    snapshot: var[Snapshot | None] = var(None)
    pane: var[str] = var("samples")

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run_folder = run
        self._curves = curves.Curves()
        self.trail = (run.project, when(run.run_id))

    def body(self) -> ComposeResult:
        yield Static(id="banner")
        yield StepList(classes="-line", id="step-line")
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                yield StepList(id="steps")
                yield Static(id="facts")
            with Vertical(id="middle"):
                yield Static(id="findings")
                yield Chart(id="chart")
                yield Static(id="chart-keys")
            yield GpuPanel(id="gpu")
        yield GpuPanel(classes="-line", id="gpu-line")
        with Container(id="lower"):
            yield SamplesPane(id="samples")
            yield LogView(id="log")
            with Container(id="machine"):
                yield GpuPanel(id="gpu-pane")

    def on_mount(self) -> None:
        self.call_after_refresh(self._set_pane)

    def on_screen_resume(self) -> None:
        self.post_message(Follow(self.run_folder))

    # ------------------------------------------------------------------------------------------------------ news

    def take_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.run == self.run_folder:
            self.snapshot = snapshot

    def take_machine(self, machine: Machine) -> None:
        for panel in self.query(GpuPanel):
            panel.machine = machine

    def watch_snapshot(self, before: Snapshot | None, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        for steps in self.query(StepList):
            steps.snapshot = snapshot
        self.query_one(SamplesPane).samples = snapshot.samples
        self.query_one(LogView).snapshot = snapshot
        self.cells = state_cells(snapshot)
        update_text(self.query_one("#facts", Static), run_facts(snapshot))
        self._show_banner()
        for panel in self.query(GpuPanel):
            panel.pid = snapshot.pid
        self.draw_chart()
        if before is None or (before.live, before.resumable, before.has_results) != (
            snapshot.live, snapshot.resumable, snapshot.has_results
        ):  # fmt: skip
            self.refresh_bindings()

    # ----------------------------------------------------------------------------------------------------- chart

    def draw_chart(self) -> None:
        if self.snapshot is None:
            return
        plain = has_no_curve(self.snapshot)
        self.set_class(plain, "-without-curve")
        if plain:
            found = self.query_one("#findings", Static)
            update_text(found, findings(self.snapshot, (found.size.width or self.size.width) - 4))
            return
        self.chart.panels = self._curves.panels(self.snapshot, self.smoothing, self.log_scale, self.metrics)
        self.chart.limits = curves.limits(self.snapshot)
        update_text(self.query_one("#chart-keys", Static), self.chart_keys())

    # ------------------------------------------------------------------------------------------------------ panes

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    def watch_pane(self) -> None:
        if self.is_mounted:
            self._set_pane()

    def on_resize(self) -> None:
        self.call_after_refresh(self._set_pane)
        self.call_after_refresh(self._show_banner)

    def _show_banner(self) -> None:
        room = 4 if self.has_class("-low") else 7
        text = banner(self.snapshot, room, self.size.width - 2) if self.snapshot else None
        update_text(self.query_one("#banner", Static), text or Content(""))
        self.query_one("#banner").display = text is not None

    def _set_pane(self) -> None:
        """Narrow: one pane at a time. Wide: samples and log side by side, the machine is above."""
        narrow = self.has_class("-narrow")
        pane = self.pane if narrow or self.pane != "machine" else "samples"
        for name in _PANES:
            self.query_one(f"#{name}").display = (name == pane) if narrow else name != "machine"
        self._focus_pane(pane)

    def _focus_pane(self, pane: str) -> None:
        if pane == "log":
            self.log_view.lines.focus()
        elif pane == "samples":
            self.query_one(SamplesPane).focus()
        else:
            self.set_focus(None)

    def action_next_pane(self) -> None:
        panes = _PANES if self.has_class("-narrow") else _PANES[:2]
        self.pane = panes[(panes.index(self.pane) + 1) % len(panes)] if self.pane in panes else panes[0]

    def action_search(self) -> None:
        self.pane = "log"
        self.call_after_refresh(self.log_view.begin_search)

    def action_filter(self) -> None:
        self.pane = "log"
        self.log_view.next_filter()

    def action_find(self, direction: int) -> None:
        self.log_view.find(direction)

    def action_follow(self) -> None:
        self.log_view.follow()

    # --------------------------------------------------------------------------------------------------- the run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        snapshot = self.snapshot
        if action in ("stop", "detach"):
            return snapshot is not None and snapshot.live
        if action == "resume":
            return snapshot is not None and snapshot.resumable
        if action == "results":
            return snapshot is not None and snapshot.has_results
        if action == "chat":
            return snapshot is not None and bool(snapshot.packed)
        return not (action == "back" and self.log_view_is_searching)

    @property
    def log_view_is_searching(self) -> bool:
        found = self.query(LogView) if self.is_mounted else ()
        return any(view.has_class("-searching") for view in found)

    def action_stop(self) -> None:
        snapshot = self.snapshot
        if snapshot is None or not snapshot.live:
            return
        self.app.push_screen(stop_question(snapshot), self._stop)

    def _stop(self, chosen: str | None) -> None:
        if chosen in ("save", "abort"):
            self.post_message(StopRun(self.run_folder, cast(StopMode, chosen)))

    def action_resume(self) -> None:
        self.post_message(ResumeRun(self.run_folder))

    def action_detach(self) -> None:
        self.open("home")

    def copyables(self) -> list[Copyable]:
        from screens.frame.copying import Copyable, of_run, shell_name

        snapshot = self.snapshot
        found = of_run(self.run_folder)
        if snapshot is None:
            return found
        if snapshot.error:
            found.insert(0, Copyable("error", f"{snapshot.error.message}\n{snapshot.error.hint}".strip()))
        if snapshot.resumable:
            found.append(Copyable("resume", f"humigence pipeline --train --resume {shell_name(self.run_folder)}"))
        if snapshot.samples:
            newest = snapshot.samples[-1]
            found.append(Copyable(f"answer of step {counted(newest.step)}", f"{newest.prompt}\n\n{newest.answer.strip()}"))
        found.append(Copyable("last of the log", "\n".join(line.text for line in snapshot.log[-_COPIED_LINES:])))
        found.append(Copyable("last of the output", "\n".join(line.text for line in snapshot.output[-_COPIED_LINES:])))
        return found

    def action_results(self) -> None:
        self.open("results", run=self.run_folder)

    def action_compare(self) -> None:
        self.open("compare", runs=(self.run_folder,))

    def action_chat(self) -> None:
        self.open("chat", run=self.run_folder)


def stop_question(snapshot: Snapshot) -> Question:
    """What to do with a live run; going on is the safe answer."""
    state = snapshot.state
    where = f" at step {counted(state.step)} of {counted(state.total_steps)}" if state.step else ""
    return Question(
        f"Stop {snapshot.run.project}{where}?",
        (Answer("go on", "go on training"), Answer("save", "stop and save"), Answer("abort", "abort", danger=True)),
    )


def when(run_id: str) -> str:
    """`2025-11-22_09-31-04` → `22 Nov 09:31`."""
    try:
        return datetime.strptime(run_id[:19], "%Y-%m-%d_%H-%M-%S").strftime("%d %b %H:%M").lstrip("0")
    except ValueError:
        return run_id


def memory_fact(limit: MemoryRanOut) -> tuple[str, str]:
    """What became of the micro-batch when it no longer fitted."""
    return ("tokens at once", f"≤ {counted(limit.limit)}") if limit.limit else ("activations", "recomputed")


def rows_proved(proved: LayersProved) -> str:
    """What a row holds, and whether its conversations are known to be apart; the log has the whole sentence."""
    if not proved.isolated:
        return "not apart"
    return "unpacked" if proved.how == "rows" else "packed, proved"


def run_facts(snapshot: Snapshot) -> Content:
    """The figures below the steps, each a line."""
    state = snapshot.state
    lines: list[tuple[str, str]] = []
    current = snapshot.current
    if current and current.progress:
        lines_of = progress_lines(current.progress, _FACTS_WIDTH, phase_seconds(current, snapshot))
        return Content("\n").join([Content(line) for line in lines_of])
    if state.train_loss is not None:
        lines.append(("loss", loss(state.train_loss)))
    if state.best_loss is not None and state.best_step is not None:
        lines.append(("held-out best", loss(state.best_loss)))
        lines.append(("  at step", counted(state.best_step)))
    if snapshot.lr is not None:
        lines.append(("learning rate", f"{snapshot.lr:.2e}".replace("e-0", "e-")))
    if snapshot.grad_norm is not None:
        lines.append(("gradient norm", loss(snapshot.grad_norm)))
    plan = snapshot.plan
    if plan:
        lines.append(("micro-batch", f"{plan.micro_batch} × {plan.accumulation}"))
    if snapshot.layers_proved:
        lines.append(("rows", rows_proved(snapshot.layers_proved)))
    if snapshot.memory_limit:
        lines.append(memory_fact(snapshot.memory_limit))
    if snapshot.peak_memory_bytes:
        lines.append(("peak memory", size(snapshot.peak_memory_bytes)))
    if state.saved_step is not None:
        lines.append(("checkpoint", counted(state.saved_step)))
    return Content("\n").join(Content.assemble((f"{name:<14}", "$dim"), f"{value:>{_FACTS_WIDTH - 14}}") for name, value in lines)
