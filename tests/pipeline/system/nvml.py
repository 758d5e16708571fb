"""A stand-in for the pynvml module: GPUs as dictionaries, each answer of which may be refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30


class NVMLError(Exception):
    pass


@dataclass
class Card:
    uuid: str
    free: int
    total: int = 80 * GIB
    name: str = "NVIDIA Test"
    capability: tuple[int, int] = (9, 0)
    refuses: set[str] = field(default_factory=set)  # names of functions


class FakeNvml:
    """`cards` in nvidia-smi's order. As the real library, it does not know CUDA_VISIBLE_DEVICES."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    def __init__(self, *cards: Card, driver: str = "") -> None:
        self.cards = cards
        self._fault = driver

    def nvmlDeviceGetCount(self) -> int:
        if self._fault:
            raise NVMLError(self._fault)
        return len(self.cards)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13010

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self._answer("nvmlDeviceGetHandleByIndex", self.cards[index], self.cards[index])

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        raise NVMLError("Not Found")

    def __getattr__(self, name: str) -> Any:
        values = {
            "nvmlDeviceGetUUID": lambda card: card.uuid,
            "nvmlDeviceGetName": lambda card: card.name,
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(
                total=card.total, used=card.total - card.free, free=card.free
            ),
            "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=37, memory=5),
            "nvmlDeviceGetCudaComputeCapability": lambda card: card.capability,
            "nvmlDeviceGetComputeRunningProcesses": lambda card: [SimpleNamespace(pid=2**22 + 7, usedGpuMemory=None)],
            "nvmlDeviceGetPowerUsage": lambda card: 350_500,
            "nvmlDeviceGetEnforcedPowerLimit": lambda card: 700_000,
            "nvmlDeviceGetTemperature": lambda card: 61,
            "nvmlDeviceGetClockInfo": lambda card: 1980,
            "nvmlDeviceGetFanSpeed": lambda card: 40,
        }
        if name not in values:
            raise AttributeError(name)

        def ask(card: Card, *_: Any) -> Any:
            return self._answer(name, card, values[name](card))

        return ask

    @staticmethod
    def _answer(name: str, card: Card, value: Any) -> Any:
        if name in card.refuses:
            raise NVMLError("Not Supported")
        return value
