"""A run's curves as panels of a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screens import plot
from screens.widgets.chart import Flag, Panel, Series

if TYPE_CHECKING:
    from screens.plot import Floats
    from screens.snapshot import Columns, Snapshot

SMOOTHINGS = (0.9, 0.98, 0.0, 0.6)
# The highest of a thousand gradient norms would flatten the others.
_OUTLIERS = 0.01
_METRICS = {"grad_norm": "gradient norm", "lr": "learning rate"}


class Curves:
    """Remembers what it has smoothed: a curve is smoothed again when it has grown or the weight has changed."""

    def __init__(self) -> None:
        self._for: tuple[Columns, float] | None = None
        self._smoothed: Floats | None = None

    def smoothed(self, columns: Columns, weight: float) -> Floats:
        if self._smoothed is None or self._for is None or self._for[0] is not columns or self._for[1] != weight:
            self._smoothed = plot.smoothed(columns.loss, weight)
            self._for = (columns, weight)
        return self._smoothed

    def panels(self, snapshot: Snapshot, weight: float, log: bool, metrics: tuple[str, ...]) -> tuple[Panel, ...]:
        """The loss, and below it what was asked for."""
        columns = snapshot.columns
        series = [Series("train", columns.step, columns.loss, "chart-dots", "dots")]
        if weight > 0:
            series.append(Series("smoothed", columns.step, self.smoothed(columns, weight), "chart-line"))
        series.append(Series("held-out", columns.held_step, columns.held_loss, "chart-held", "marks"))
        first = Panel("loss", tuple(series), log, 0.002, flags(snapshot), waiting(snapshot))
        return (first, *(_metric(snapshot, name, log) for name in metrics))


def _metric(snapshot: Snapshot, name: str, log: bool) -> Panel:
    columns = snapshot.columns
    y = columns.grad_norm if name == "grad_norm" else columns.lr
    line = Series(_METRICS[name], columns.step, y, "chart-line")
    return Panel(_METRICS[name], (line,), log, _OUTLIERS if name == "grad_norm" else 0.0)


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
