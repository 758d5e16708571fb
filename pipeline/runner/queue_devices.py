"""Where a queued run can be computed now: a GPU that nobody trains on, or the CPU, one run at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.common.errors import HumigenceError
from pipeline.runs import control, fold_cache, store
from pipeline.runs.folders import Workspace
from pipeline.runs.gpu_lock import card_holder
from pipeline.system import gpu
from pipeline.system.gpu import Device

CPU = "cpu"


@dataclass(frozen=True)
class Choice:
    """Where a run goes, or why it has to wait.

    Attributes:
        device: UUID of a GPU, "cpu", or "" where the run itself will say what is wrong with the device it names.
        name: as a person reads it.
        waits_for: empty where it can start.
    """

    device: str = ""
    name: str = ""
    waits_for: str = ""


class Devices:
    """What is free of this machine for the runs of `workspace`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def choose(self, wanted: str, taken: Collection[str]) -> Choice:
        """A device for a run.

        Args:
            wanted: its `compute.gpu`.
            taken: devices of the queue's runs that are on; their locks may not be held yet.
        """
        try:
            possible = gpu.auto_devices() if wanted == "auto" else [gpu.choose_device(wanted)]
        except HumigenceError:
            return Choice()
        if possible[0].kind == "cpu":
            return self._cpu(possible[0], taken)
        free = next((each for each in possible if each.uuid not in taken and card_holder(each) is None), None)
        if free is None:
            several = len(possible) > 1
            return Choice(waits_for="a GPU: a run is on each" if several else f"GPU {possible[0].index}: another run is on it")
        return Choice(free.uuid, f"GPU {free.index}: {free.name}")

    def _cpu(self, device: Device, taken: Collection[str]) -> Choice:
        if CPU in taken or self._trains_on_cpu():
            return Choice(waits_for="the CPU: another run is on it")
        return Choice(CPU, device.name)

    def _trains_on_cpu(self) -> bool:
        """Whether a run that was started without the queue is on there: the CPU has no lock."""
        live = (run for run in store.runs_of(self._workspace) if control.is_alive(run))
        return any(fold_cache.read_summary(run).device.startswith("CPU") for run in live)
