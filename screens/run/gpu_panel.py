"""The machine: each GPU with its history, the CPU and memory. Where something is not known, its line is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from pipeline.common.text import safe

if TYPE_CHECKING:
    from pipeline.system.gpu import GpuReading
    from screens.frame.machine_snapshot import GpuView, Machine

_GIB = 1 << 30
_LABEL = 7
_VALUE = 13
_MOST_PROCESSES = 3


class GpuPanel(Widget):
    """`pid`: the process of the run on screen, marked among the others. As a single line with the class `-line`."""

    DEFAULT_CSS = "GpuPanel { height: auto; } GpuPanel.-line { height: 1; }"

    machine: reactive[Machine | None] = reactive(None)
    pid: reactive[int] = reactive(0)

    def watch_machine(self, before: Machine | None, machine: Machine | None) -> None:
        # Every second: the screen is laid out again only when there are more lines, or fewer.
        if self.is_mounted and not self.has_class("-line") and self._height_of(before) != self._height_of(machine):
            self.refresh(layout=True)

    def _height_of(self, machine: Machine | None) -> int:
        return len(list(machine_lines(machine, self.content_size.width or 80, self.pid))) if machine else 0

    def render(self) -> Content:
        width = self.content_size.width or self.size.width
        if self.machine is None:
            return Content("")
        if self.has_class("-line"):
            return machine_line(self.machine, width)
        return Content("\n").join(list(machine_lines(self.machine, width, self.pid)))


def short_name(name: str | None) -> str:
    """`NVIDIA GeForce RTX 4080` → `RTX 4080`."""
    return safe((name or "GPU").removeprefix("NVIDIA ").removeprefix("GeForce "))


def machine_lines(machine: Machine, width: int, pid: int = 0) -> Iterator[Content]:
    """Every GPU, then the CPU and memory, each line `width` cells at most."""
    for number, gpu in enumerate(machine.gpus):
        if number:
            yield Content("")
        yield from _gpu_lines(gpu, width, pid)
    if not machine.gpus:
        yield Content.styled("no GPU to see", "$dim")
        yield from Content.styled(machine.problem, "$dim").wrap(max(10, width))
    if machine.host:
        host = machine.host
        yield Content("")
        load = "" if host.utilization_pct is None else f"{host.utilization_pct:.0f} %"
        yield _history("CPU", machine.cpu, load, width)
        used = (host.memory_total_bytes - host.memory_available_bytes) / _GIB
        yield _history("RAM", machine.memory, f"{used:.1f}/{host.memory_total_bytes / _GIB:.0f} GiB", width)


def _gpu_lines(gpu: GpuView, width: int, pid: int) -> Iterator[Content]:
    reading = gpu.reading
    words = short_name(reading.name).split()
    while len(words) > 1 and len(f"GPU {reading.index}  {' '.join(words)}") > width:
        words.pop()  # the maker puts the least telling last
    yield Content.assemble((f"GPU {reading.index}", "bold"), "  ", (" ".join(words), "$dim")).truncate(width, ellipsis=True)
    if gpu.lost_at is not None:
        when = datetime.fromtimestamp(gpu.lost_at).strftime("%H:%M:%S")
        yield Content.styled(f"✘ does not answer since {when}", "$error").truncate(width, ellipsis=True)
        return
    if reading.utilization_pct is not None:
        yield _history("util", gpu.utilization, f"{reading.utilization_pct} %", width)
    if reading.memory_used_bytes is not None:
        yield _history("memory", gpu.memory, _of(reading.memory_used_bytes / _GIB, reading.memory_total_bytes, "GiB"), width)
    for process in sorted(reading.processes or (), key=lambda each: -(each.used_bytes or 0))[:_MOST_PROCESSES]:
        used = "" if process.used_bytes is None else f"{process.used_bytes / _GIB:.1f} GiB"
        name = safe((process.name or "another container").rsplit("/", 1)[-1])
        text = f"  {name} {process.pid}"
        style = "" if process.pid == pid else "$dim"
        room = max(0, width - 10)
        yield Content.styled(f"{text[:room]:<{room}}{used:>10}"[: max(0, width)], style)
    if reading.power_w is not None:
        limit = "" if reading.power_limit_w is None else f"/{reading.power_limit_w:.0f}"
        yield _history("power", gpu.power, f"{reading.power_w:.0f}{limit} W", width)
    if reading.temperature_c is not None:
        yield _history("temp", gpu.temperature, f"{reading.temperature_c} °C", width)
    if reading.clock_mhz is not None:
        yield _history("clock", (), f"{reading.clock_mhz:,} MHz", width)
    if reading.fan_pct is not None:
        yield _history("fan", (), f"{reading.fan_pct} %", width)


def _of(used: float, total: float | None, unit: str) -> str:
    return f"{used:.1f}/{total / _GIB:.1f} {unit}" if total else f"{used:.1f} {unit}"


def _history(name: str, values: tuple[float, ...], text: str, width: int) -> Content:
    """`util   ▂▅▇████▇██   97 %`."""
    value_width = max(_VALUE, len(text) + 1)
    bars = sparkline(values, max(0, width - _LABEL - value_width)) if values else " " * max(0, width - _LABEL - value_width)
    return Content.assemble((f"{name:<{_LABEL}}", "$dim"), (bars, "$chart-dots"), f"{text:>{value_width}}")


def machine_line(machine: Machine, width: int) -> Content:
    """All in one line, the GPU first; what there is no room for is left out whole, the least telling first."""
    line = Content("")
    for left_out in range(len(_LEFT_OUT) + 1):
        line = _one_line(machine, frozenset(_LEFT_OUT[:left_out]))
        if line.cell_length <= width:
            return line
    return line.truncate(width, ellipsis=True)


# Of the single line, in the order in which they go.
_LEFT_OUT = ("GiB of RAM", "CPU", "long bar", "long name", "bar", "power", "name", "temperature", "RAM")


def _one_line(machine: Machine, without: frozenset[str]) -> Content:
    parts: list[Content] = []
    for gpu in machine.gpus:
        name = short_name(gpu.reading.name)
        name = "" if "name" in without else " ".join(name.split()[:_SHORT_NAME]) if "long name" in without else name
        parts.append(Content.assemble((f"GPU {gpu.reading.index}", "bold"), (f" {name}" if name else "", "$dim")))
        parts += (
            [Content.styled("✘ does not answer", "$error")] if gpu.lost_at is not None else list(_figures(gpu.reading, without))
        )
    if not machine.gpus:
        parts.append(Content.styled("no GPU", "$dim"))
    host = machine.host
    if host is not None and host.utilization_pct is not None and "CPU" not in without:
        parts.append(Content.assemble(("CPU ", "$dim"), f"{host.utilization_pct:3.0f} %"))
    if host is not None and "RAM" not in without:
        used, total = (host.memory_total_bytes - host.memory_available_bytes) / _GIB, host.memory_total_bytes / _GIB
        unit = "" if "GiB of RAM" in without else " GiB"
        parts.append(Content.assemble(("RAM ", "$dim"), f"{used:.1f}/{total:.0f}{unit}"))
    return Content.assemble(" ", Content("  ").join(parts))


_BAR, _SHORT_BAR, _SHORT_NAME = 10, 5, 3  # cells, cells, words


def _figures(reading: GpuReading, without: frozenset[str]) -> Iterator[Content]:
    if reading.utilization_pct is not None:
        width = 0 if "bar" in without else _SHORT_BAR if "long bar" in without else _BAR
        full = round(width * min(100, reading.utilization_pct) / 100)
        bar = (" " + "▇" * full, "$chart-dots"), ("░" * (width - full), "$faint")
        yield Content.assemble(f"{reading.utilization_pct:3d} %", *(bar if width else ()))
    if reading.memory_used_bytes is not None:
        yield Content(_of(reading.memory_used_bytes / _GIB, reading.memory_total_bytes, "GiB"))
    if reading.power_w is not None and "power" not in without:
        yield Content(f"{reading.power_w:.0f} W")
    if reading.temperature_c is not None and "temperature" not in without:
        yield Content(f"{reading.temperature_c} °C")


def sparkline(values: Sequence[float], width: int, top: float = 100.0) -> str:
    """All `values` (0 to `top`, oldest first) as `width` bars of eight heights, right-aligned: `▂▅▇████▇██`.

    More values than bars: each bar is the mean of its share of them.
    """
    shown = [value for value in values if math.isfinite(value)]
    if width <= 0 or not shown:
        return " " * max(0, width)
    if len(shown) > width:
        edges = [number * len(shown) // width for number in range(width + 1)]
        shown = [sum(shown[begin:end]) / (end - begin) for begin, end in pairwise(edges)]
    bars = ("▁▂▃▄▅▆▇█"[min(7, max(0, int(value / top * 8)))] for value in shown)
    return "".join(bars).rjust(width)
