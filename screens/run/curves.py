"""A run's curves as panels of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from screens.charts import chart_math
from screens.charts.chart import Flag, Panel, Series
from screens.charts.min_max_blocks import leads_on
from screens.frame.themes import SERIES

if TYPE_CHECKING:
    from screens.charts.chart_math import Floats
    from screens.frame.run_snapshot import Columns, Snapshot

SMOOTHINGS = (0.9, 0.98, 0.0, 0.6)
# The highest of a thousand gradient norms would flatten the others.
_OUTLIERS = 0.01
# Column → its key, its short name, its title.
METRICS = {"grad_norm": ("g", "gradient", "gradient norm"), "lr": ("r", "rate", "learning rate")}


class Curves:
    """Remembers what it has smoothed: of a curve that has grown only what is new, all of another one or with another weight."""

    def __init__(self) -> None:
        self._smoother: chart_math.Smoother | None = None
        self._last: Floats | None = None  # the losses smoothed

    def smoothed(self, columns: Columns, weight: float) -> Floats:
        loss = columns.loss
        weight = fitted_weight(weight, len(loss))
        if weight <= 0:
            return loss
        if self._smoother is None or self._smoother.weight != weight or not self._leads_on(loss):
            self._smoother = chart_math.Smoother(weight)
        self._last = loss
        return self._smoother.upto(loss)

    def _leads_on(self, loss: Floats) -> bool:
        """Whether `loss` begins with what was smoothed last."""
        last = self._last
        if last is None or len(loss) < len(last):
            return False
        return leads_on(last, loss) or bool(np.array_equal(loss[: len(last)], last, equal_nan=True))

    def panels(self, snapshot: Snapshot, weight: float, log: bool, metrics: tuple[str, ...]) -> tuple[Panel, ...]:
        """The loss, and below it what was asked for."""
        columns = snapshot.columns
        series = [Series("train", columns.step, columns.loss, "chart-dots", "dots")]
        if weight > 0:
            series.append(Series("smoothed", columns.step, self.smoothed(columns, weight), "chart-line"))
        series.append(Series("held-out", columns.held_step, columns.held_loss, "chart-held", "marks"))
        first = Panel("loss", tuple(series), log, 0.002, flags(snapshot), waiting(snapshot))
        return (first, *(_metric(snapshot, name, log) for name in metrics))


def fitted_weight(weight: float, steps: int) -> float:
    """`weight`, or as much less as a short curve takes: an average over a third of all steps lies above a falling loss.

    It averages over 1 / (1 - weight) steps; at most a twelfth of all there are, in whole steps, so that it changes rarely.
    """
    if weight <= 0:
        return weight
    return min(weight, 1 - 1 / max(1, steps // 12))


def _metric(snapshot: Snapshot, name: str, log: bool) -> Panel:
    columns = snapshot.columns
    line = Series(METRICS[name][2], columns.step, metric(columns, name), "chart-line")
    return Panel(METRICS[name][2], (line,), log, _OUTLIERS if name == "grad_norm" else 0.0)


def metric(columns: Columns, name: str) -> Floats:
    return columns.grad_norm if name == "grad_norm" else columns.lr


def compared(
    snapshots: Sequence[Snapshot],
    names: Sequence[str],
    smoothers: Sequence[Curves],
    weight: float,
    log: bool,
    metrics: tuple[str, ...],
) -> tuple[Panel, ...]:
    """The curves of several runs over one another, each in its colour; held-out losses as marks of the same colour."""
    lines: list[Series] = []
    marks: list[Series] = []
    for number, (snapshot, name, smoother) in enumerate(zip(snapshots, names, smoothers, strict=True)):
        colour, columns = SERIES[number % len(SERIES)], snapshot.columns
        lines.append(Series(name, columns.step, smoother.smoothed(columns, weight), colour, tag=name.split()[-1]))
        marks.append(Series(f"{name} held-out", columns.held_step, columns.held_loss, colour, "marks", has_legend=False))
    first = Panel("loss", (*lines, *marks), log, 0.002, empty="none of these runs has trained")
    return (first, *(_compared_metric(snapshots, lines, name, log) for name in metrics))


def _compared_metric(snapshots: Sequence[Snapshot], lines: Sequence[Series], name: str, log: bool) -> Panel:
    series = (Series(line.name, line.x, metric(s.columns, name), line.colour) for line, s in zip(lines, snapshots, strict=True))
    return Panel(METRICS[name][2], tuple(series), log, _OUTLIERS if name == "grad_norm" else 0.0)


def waiting(snapshot: Snapshot) -> str:
    """Why there is no curve."""
    if snapshot.live:
        return "the curve begins with the first optimizer step" if snapshot.state.training else "training was not asked for"
    return "this run did not train" if snapshot.state.training else "training was not asked for: this run only prepared the data"


def flags(snapshot: Snapshot) -> tuple[Flag, ...]:
    """What happened to the curve, where it happened."""
    found = []
    if snapshot.diverged:
        found.append(Flag(snapshot.diverged.step, f"{snapshot.diverged.quantity} is not finite", "error"))
    if snapshot.early_stopped:
        found.append(Flag(snapshot.early_stopped.best_step, f"best, step {snapshot.early_stopped.best_step:,}", "dim"))
    return tuple(found)


def limits(snapshot: Snapshot) -> tuple[float, float]:
    """First and last step of the frame. While a run is on the frame grows by doubling, so that the curve does not creep."""
    last = float(snapshot.columns.step[-1]) if len(snapshot.columns.step) else 0.0
    total = float(snapshot.state.total_steps)
    if snapshot.live and total > last:
        frame = total
        while frame / 2 > last * 1.02 and frame / 2 >= 8:
            frame /= 2
        last = frame
    return 0.0, max(last, 1.0)
