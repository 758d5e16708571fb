"""What screens show of the machine, as frozen values: GPUs, CPU and memory now and in the last minutes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from pipeline.system.gpu import GpuReading, Survey
from pipeline.system.host import HostReading

HISTORY = 120  # readings stored, one a second


@dataclass(frozen=True)
class GpuView:
    """One GPU. Histories hold percentages (0 to 100), oldest first; empty where the driver does not report."""

    reading: GpuReading
    lost_at: float | None = None  # when it stopped answering, in seconds since 1970
    utilization: tuple[float, ...] = ()
    memory: tuple[float, ...] = ()
    power: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()


@dataclass(frozen=True)
class Machine:
    """At one moment. `problem` says why there is no GPU to see."""

    gpus: tuple[GpuView, ...] = ()
    problem: str = ""
    host: HostReading | None = None
    cpu: tuple[float, ...] = ()
    memory: tuple[float, ...] = ()


Quantity = Literal["utilization", "memory", "power", "temperature"]


@dataclass
class _Track:
    reading: GpuReading
    lost_at: float | None = None
    columns: dict[Quantity, deque[float]] = field(
        default_factory=lambda: {name: deque(maxlen=HISTORY) for name in ("utilization", "memory", "power", "temperature")}
    )


class MachineHistory:
    """Readings go in, frozen `Machine`s come out. A GPU that was there and does not answer stays, marked as lost."""

    def __init__(self) -> None:
        self._gpus: dict[str, _Track] = {}
        self._cpu: deque[float] = deque(maxlen=HISTORY)
        self._memory: deque[float] = deque(maxlen=HISTORY)

    def add(self, survey: Survey, host: HostReading | None, now: float) -> Machine:
        """`now`: seconds since 1970."""
        seen = {reading.uuid or str(reading.index): reading for reading in survey.gpus if _answers(reading)}
        for key, reading in seen.items():
            track = self._gpus.setdefault(key, _Track(reading))
            track.reading, track.lost_at = reading, None
            for name, value in percentages(reading).items():
                if value is not None:
                    track.columns[name].append(value)
        for key, track in self._gpus.items():
            if key not in seen and track.lost_at is None:
                track.lost_at = now
        if host is not None:
            if host.utilization_pct is not None:
                self._cpu.append(host.utilization_pct)
            self._memory.append(100 * (1 - host.memory_available_bytes / max(1, host.memory_total_bytes)))
        views = tuple(_view(track) for track in self._gpus.values())
        return Machine(views, survey.problem if not views else "", host, tuple(self._cpu), tuple(self._memory))


def _answers(reading: GpuReading) -> bool:
    """A GPU that fell off the bus is still counted by the driver, with nothing known of it."""
    return any((reading.uuid, reading.name, reading.memory_total_bytes, reading.utilization_pct is not None))


def percentages(reading: GpuReading) -> dict[Quantity, float | None]:
    """The quantities that have a history, as shares of what is possible; None where unknown."""
    return {
        "utilization": reading.utilization_pct,
        "memory": _share(reading.memory_used_bytes, reading.memory_total_bytes),
        "power": _share(reading.power_w, reading.power_limit_w),
        "temperature": reading.temperature_c,
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _view(track: _Track) -> GpuView:
    columns = {name: tuple(values) for name, values in track.columns.items()}
    return GpuView(
        track.reading, track.lost_at, columns["utilization"], columns["memory"], columns["power"], columns["temperature"]
    )
