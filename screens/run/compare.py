"""Several runs over one another: their curves, how they ended, and in which settings they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from pipeline.common.files import read_json
from pipeline.common.text import counted, duration, loss, safe
from pipeline.runs.folders import RunFolder
from screens.charts.chart import Chart
from screens.frame.messages import Follow
from screens.frame.themes import SERIES
from screens.run import curves as run_curves
from screens.run.chart_page import ChartPage
from screens.run.run import when
from screens.run.run_text import STATUS_WORDS
from screens.widgets.table import Column, Table, TableRow
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from screens.frame.copying import Copyable
    from screens.frame.run_snapshot import RunRow, Snapshot

_MOST_RUNS = len(SERIES)


class CompareScreen(ChartPage):
    """At most six runs. With one, the others of its project can be added."""

    CSS_PATH = "compare.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "add a run", tooltip="add the next run of the same project"),
        Binding("x", "remove", "remove", tooltip="take away the run that was added last"),
        Binding("enter", "open_first", "open", tooltip="open the first run"),
    ]

    runs: var[tuple[RunFolder, ...]] = var(())

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        super().__init__()
        self.set_reactive(CompareScreen.runs, tuple(runs[:_MOST_RUNS]))
        self._snapshots: dict[RunFolder, Snapshot] = {}
        self._curves: dict[RunFolder, run_curves.Curves] = {}
        self._known: tuple[RunRow, ...] = ()
        self.trail = ("compare",)

    def body(self) -> ComposeResult:
        yield Chart(id="chart")
        yield Static(id="chart-keys")
        yield Static(id="legend")
        yield Table(_columns(1), id="differences")

    def on_mount(self) -> None:
        self.query_one(Table).focus()
        self._show()

    def on_screen_resume(self) -> None:
        self.post_message(Follow(*self.runs))

    def take_runs(self, rows: tuple[RunRow, ...]) -> None:
        self._known = rows
        self.refresh_bindings()

    def take_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.run in self.runs:
            self._snapshots[snapshot.run] = snapshot
            self.draw_chart()
            update_text(self.query_one("#legend", Static), self._legend())

    def on_resize(self) -> None:
        update_text(self.query_one("#legend", Static), self._legend())

    def watch_runs(self) -> None:
        if self.ready:
            self.post_message(Follow(*self.runs))
            self._show()

    def _show(self) -> None:
        self.cells = (Content(f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"),)
        rows = self.query_one(Table)
        rows.columns = _columns(len(self.runs))
        rows.show(difference_rows([settings(run) for run in self.runs]))
        update_text(self.query_one("#legend", Static), self._legend())
        self.draw_chart()
        self.refresh_bindings()

    def _legend(self) -> Content:
        name_width = min(20, max(len(run.project) for run in self.runs))
        width = self.size.width - 2
        lines = (legend_line(run, self._snapshots.get(run), number, name_width, width) for number, run in enumerate(self.runs))
        return Content("\n").join(list(lines))

    def draw_chart(self) -> None:
        shown = [self._snapshots[run] for run in self.runs if run in self._snapshots]
        curves = [self._curves.setdefault(snapshot.run, run_curves.Curves()) for snapshot in shown]
        names = [f"run {self.runs.index(snapshot.run) + 1}" for snapshot in shown]
        self.chart.panels = run_curves.compared(shown, names, curves, self.smoothing, self.log_scale, self.metrics)
        self.chart.limits = (0.0, max((run_curves.limits(snapshot)[1] for snapshot in shown), default=1.0))
        update_text(self.query_one("#chart-keys", Static), self.chart_keys())

    # ---------------------------------------------------------------------------------------------------- actions

    def _next(self) -> RunFolder | None:
        """The run that `a` adds: the newest of the same project that is not here, else of any."""
        others = [row.run for row in self._known if row.run not in self.runs]
        projects = {run.project for run in self.runs}
        return next((run for run in others if run.project in projects), others[0] if others else None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "add":
            return len(self.runs) < _MOST_RUNS and self._next() is not None
        if action == "remove":
            return len(self.runs) > 1
        return True

    def action_add(self) -> None:
        following = self._next()
        if following and len(self.runs) < _MOST_RUNS:
            self.runs = (*self.runs, following)

    def action_remove(self) -> None:
        if len(self.runs) > 1:
            self.runs = self.runs[:-1]

    def copyables(self) -> list[Copyable]:
        from screens.frame.copying import Copyable

        rows = difference_rows([settings(run) for run in self.runs])
        table = "\n".join("\t".join(cell.plain for cell in row.cells) for row in rows)
        folders = [Copyable(f"folder of run {number + 1}", str(run.path)) for number, run in enumerate(self.runs)]
        return [Copyable("differences", table), *folders]

    def action_open_first(self) -> None:
        self.open("run", run=self.runs[0])


def _columns(runs: int) -> tuple[Column, ...]:
    return (Column("setting", 28, grows=1), *(Column(f"run {number + 1}", 14, grows=1, rank=number) for number in range(runs)))


def legend_line(run: RunFolder, snapshot: Snapshot | None, number: int, name_width: int, width: int) -> Content:
    """`━ run 1  support  22 Nov 09:31  ✔ finished  1,204 steps  1.412  3 of 3 gates  6 m 53 s`, the last of it where it fits."""
    name = Content(safe(run.project)).truncate(name_width, ellipsis=True)
    head = Content.assemble(
        ("━ ", f"${SERIES[number]}"), (f"run {number + 1}  ", "$dim"), name.pad_right(name_width - name.cell_length),
        (f"  {when(run.run_id):<13}", "$dim"),
    )  # fmt: skip
    if snapshot is None:
        return Content.assemble(head, ("  reading", "$dim"))
    state = snapshot.state
    symbol, word, style = STATUS_WORDS[snapshot.status]
    best = loss(state.best_loss) if state.best_loss is not None else "–"
    judged = state.gates_passed + state.gates_failed
    gates = f"{state.gates_passed} of {judged} gates" if judged else ""
    symbol, style = ("✘", "$error") if state.gates_failed else (symbol, style)
    figures = [f"{counted(state.step):>8} steps", f"  {best:>6}", f"  {gates:<13}", f"  {duration(state.busy_seconds):>10}"]
    line = Content.assemble(head, "  ", (f"{symbol} ", style), f"{word:<8}")
    for figure in figures:
        if line.cell_length + len(figure) > width:
            break
        line = line + Content(figure)
    return line


# ------------------------------------------------------------------------------------------------- their settings


def settings(run: RunFolder) -> dict[str, Any]:
    """The run's config by dotted keys; empty when it can't be read."""
    try:
        return dict(_flat("", read_json(run.config)))
    except (OSError, json.JSONDecodeError):
        return {}


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, value)]


def difference_rows(configs: Sequence[Mapping[str, Any]]) -> list[TableRow]:
    """A row for each setting in which they differ, and one that counts those that are the same."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({json.dumps(config.get(key), sort_keys=True) for config in configs}) > 1]
    rows = [TableRow(key, (Content(safe(key)), *(_value(config, key) for config in configs))) for key in differing]
    same = len(keys) - len(differing)
    if len(configs) < 2:
        text = "a adds a run to compare with"
    else:
        text = f"the other {same} settings are the same" if differing else f"all {same} settings are the same"
    return [*rows, TableRow("", (Content.styled(text, "$dim"),), is_heading=True)]


def _value(config: Mapping[str, Any], key: str) -> Content:
    if key not in config:
        return Content.styled("–", "$faint")
    value = config[key]
    return Content(safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
