"""What screens with a chart share: its keys, its smoothing and its scale."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var

from screens.charts.chart import Chart
from screens.frame.page import Page
from screens.run.curves import METRICS, SMOOTHINGS


class ChartPage(Page):
    """`draw_chart` gives the page's `Chart` its panels; called whenever a setting changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "zoom(0.7)", "zoom in", key_display="+", show=False),
        Binding("minus", "zoom(1.43)", "zoom out", show=False),
        Binding("0", "whole", "the whole curve", show=False),
        Binding("left,h", "pan(-0.25)", "pan back", show=False),
        Binding("right,l", "pan(0.25)", "pan on", show=False),
        Binding("comma", "pointer(-1)", "read the curve: back", show=False),
        Binding("full_stop", "pointer(1)", "read the curve: on", show=False),
        Binding("y", "log_scale", "logarithmic scale", show=False),
        Binding("s", "smoothing", "smoothing", show=False),
        Binding("g", "metric('grad_norm')", "gradient norm", show=False),
        Binding("r", "metric('lr')", "learning rate", show=False),
    ]

    smoothing: var[float] = var(SMOOTHINGS[0])
    log_scale: var[bool] = var(False)
    metrics: var[tuple[str, ...]] = var(())

    @property
    def chart(self) -> Chart:
        return self.query_one(Chart)

    def draw_chart(self) -> None:
        """Give the chart its panels."""

    def _redraw(self) -> None:
        if self.ready:
            self.draw_chart()

    def watch_smoothing(self) -> None:
        self._redraw()

    def watch_log_scale(self) -> None:
        self._redraw()

    def watch_metrics(self) -> None:
        self._redraw()

    def action_zoom(self, factor: float) -> None:
        self.chart.zoom(factor)

    def action_whole(self) -> None:
        self.chart.show_all()

    def action_pan(self, share: float) -> None:
        self.chart.pan(share)

    def action_pointer(self, columns: int) -> None:
        self.chart.move_pointer(columns)

    def action_log_scale(self) -> None:
        self.log_scale = not self.log_scale

    def action_smoothing(self) -> None:
        self.smoothing = SMOOTHINGS[(SMOOTHINGS.index(self.smoothing) + 1) % len(SMOOTHINGS)]

    def action_metric(self, name: str) -> None:
        self.metrics = tuple(n for n in self.metrics if n != name) if name in self.metrics else (*self.metrics, name)

    def chart_keys(self) -> Content:
        """The keys of the chart with what they are set to, as many as there is room for."""

        def key(name: str, what: str, on: bool = False) -> Content:
            return Content.assemble((name, "bold"), (f" {what}", "$foreground" if on else "$dim"))

        metrics = [key(letter, short, name in self.metrics) for name, (letter, short, _) in METRICS.items()]
        parts = [
            key("+ −", "zoom"), key("← →", "pan"), key("0", "all"), key("y", "log", self.log_scale),
            key("s", f"smooth {self.smoothing:<4g}", self.smoothing > 0), *metrics, key(", .", "read"),
        ]  # fmt: skip
        room = (self.query_one("#chart-keys").content_size.width or self.size.width) - 1
        while sum(part.cell_length + 2 for part in parts) - 2 > room and len(parts) > 1:
            parts.pop()
        return Content("  ").join(parts)
