"""GPUs as numbers, read through NVML, and the device a run uses.

Every field of a reading is optional and one failure never hides the others: server cards have no fan, containers hide processes,
unified-memory machines have no separate GPU memory. No driver and no GPU are ordinary answers, not errors.

GPUs are numbered as `nvidia-smi` numbers them (`CUDA_DEVICE_ORDER=PCI_BUS_ID`) and known by UUID. NVML ignores
`CUDA_VISIBLE_DEVICES`; `allowed` applies it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.common.errors import EnvironmentFault
from pipeline.system.host import multiplies_bfloat16, read_host

GIB = 1 << 30


@dataclass(frozen=True)
class GpuProcess:
    pid: int
    name: str | None = None
    used_bytes: int | None = None


@dataclass(frozen=True)
class GpuReading:
    """One GPU now. `index` is nvidia-smi's number; anything the driver does not report is None."""

    index: int
    uuid: str | None = None
    name: str | None = None
    capability: tuple[int, int] | None = None
    utilization_pct: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    clock_mhz: int | None = None
    fan_pct: int | None = None

    @property
    def label(self) -> str:
        """How a message names it: `0: NVIDIA H100 (GPU-8932f937…)`."""
        uuid = f" ({self.uuid})" if self.uuid else ""
        return f"{self.index}: {self.name or 'GPU'}{uuid}"


@dataclass(frozen=True)
class Survey:
    """All GPUs of the machine, or why there are none to see."""

    gpus: tuple[GpuReading, ...] = ()
    problem: str = ""
    driver_version: str | None = None
    cuda_version: str | None = None  # the newest CUDA the driver can run: "13.0"


@dataclass(frozen=True)
class Device:
    """What a run computes on. For the CPU, the bytes are the machine's memory. `uuid` is the index where there is none."""

    kind: Literal["cuda", "cpu"]
    name: str
    uuid: str = ""
    index: int = 0
    total_bytes: int = 0  # 0 where unknown
    free_bytes: int = 0
    capability: tuple[int, int] | None = None
    bfloat16: bool = False  # of a CPU: whether it multiplies bfloat16 itself

    def within(self, limit_gib: float | None) -> Device:
        """A GPU as if it had this much memory only; the CPU as it is."""
        if limit_gib is None or self.kind == "cpu":
            return self
        limit = round(limit_gib * GIB)
        total, free = (min(each, limit) if self.total_bytes else limit for each in (self.total_bytes, self.free_bytes))
        return replace(self, total_bytes=total, free_bytes=free)

    @property
    def torch_device(self) -> str:
        """A worker sees its one GPU only (`CUDA_VISIBLE_DEVICES=<uuid>`), so it is always the first."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


# ------------------------------------------------------------------------------------------------- NVML


def read_gpus() -> tuple[GpuReading, ...]:
    """Every GPU of the machine, whatever CUDA_VISIBLE_DEVICES says; empty without a driver or a GPU."""
    return survey().gpus


def survey(nvml: Any = None) -> Survey:
    """Every GPU, with the driver's versions.

    Args:
        nvml: the module to ask (`pynvml` when None); tests hand in a stand-in with the same functions.
    """
    if nvml is None:
        nvml, problem = _started_nvml()
        if nvml is None:
            return Survey(problem=problem)
    count, problem = _ask_why(nvml, "nvmlDeviceGetCount")
    if count is None:
        return Survey(problem=f"the NVIDIA driver does not answer: {problem}")
    gpus = tuple(_reading(nvml, index) for index in range(count))
    cuda = _ask(nvml, "nvmlSystemGetCudaDriverVersion")
    return Survey(
        gpus=gpus,
        problem="" if gpus else "the NVIDIA driver is there and sees no GPU",
        driver_version=_text(_ask(nvml, "nvmlSystemGetDriverVersion")),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
    )


def _started_nvml() -> tuple[Any, str]:
    """(pynvml, "") once it is initialised, else (None, why not). Asked again each time: a driver may come back."""
    try:
        import pynvml
    except ImportError:
        return None, "the nvidia-ml-py package is missing"
    try:
        pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return None, f"no NVIDIA driver ({error})"
    return pynvml, ""


def _ask(nvml: Any, function: str, *args: Any) -> Any:
    """The answer, or None when the driver has none."""
    return _ask_why(nvml, function, *args)[0]


def _ask_why(nvml: Any, function: str, *args: Any) -> tuple[Any, str]:
    try:
        return getattr(nvml, function)(*args), ""
    except (nvml.NVMLError, AttributeError, UnicodeDecodeError) as error:  # AttributeError: an older binding
        return None, str(error) or type(error).__name__


def _text(value: Any) -> str | None:
    """Older bindings answer with bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _scaled(value: Any, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _reading(nvml: Any, index: int) -> GpuReading:
    handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", index)
    return GpuReading(index) if handle is None else _reading_of(nvml, index, handle)


def _reading_of(nvml: Any, index: int, handle: Any) -> GpuReading:
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    rates = _ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    capability = _ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    return GpuReading(
        index=index,
        uuid=_text(_ask(nvml, "nvmlDeviceGetUUID", handle)),
        name=_text(_ask(nvml, "nvmlDeviceGetName", handle)),
        capability=tuple(capability) if capability else None,
        utilization_pct=getattr(rates, "gpu", None),
        memory_used_bytes=getattr(memory, "used", None),
        memory_total_bytes=getattr(memory, "total", None),
        memory_free_bytes=getattr(memory, "free", None),
        processes=_processes(nvml, handle),
        power_w=_scaled(_ask(nvml, "nvmlDeviceGetPowerUsage", handle), 1000),
        power_limit_w=_scaled(_ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle), 1000),
        temperature_c=_ask(nvml, "nvmlDeviceGetTemperature", handle, getattr(nvml, "NVML_TEMPERATURE_GPU", 0)),
        clock_mhz=_ask(nvml, "nvmlDeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", 1)),
        fan_pct=_ask(nvml, "nvmlDeviceGetFanSpeed", handle),
    )


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    running = _ask(nvml, "nvmlDeviceGetComputeRunningProcesses", handle)
    if running is None:
        return None
    return tuple(GpuProcess(each.pid, _process_name(nvml, each.pid), each.usedGpuMemory) for each in running)


def _process_name(nvml: Any, pid: int) -> str | None:
    """NVML's name, else the kernel's; None for a process of another container."""
    name = _text(_ask(nvml, "nvmlSystemGetProcessName", pid))
    if not name:
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return name or None


# ------------------------------------------------------------------------------------------------- choosing


def torch_cuda_build() -> str | None:
    """The CUDA version the installed torch was built for; None for a CPU build or no torch. Does not import torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    with contextlib.suppress(OSError):
        text = (Path(spec.origin).parent / "version.py").read_text()
        found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        return found.group(1) if found else None
    return None


def see_only(device: Device) -> None:
    """Hide every other GPU from this process, and let its threads wait asleep. Before torch is imported: it reads this once."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid if device.kind == "cuda" else ""
    # Micro-batches differ in length: blocks of fixed size would be cut into pieces that fit no other (56 GiB held for 20 used).
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    # A thread that waits by spinning keeps a core from whoever shares it: an answer beside a run on the CPU took minutes, and the
    # run's steps thirty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def allowed(gpus: Sequence[GpuReading], environ: Mapping[str, str] | None = None) -> tuple[GpuReading, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all of them when it is not set.

    It may hold indices, UUIDs or the start of one. As CUDA does, what follows the first entry that names no GPU is ignored.
    """
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(gpus)
    chosen: list[GpuReading] = []
    for entry in visible.split(","):
        gpu = _named(gpus, entry.strip())
        if gpu is None or gpu in chosen:
            break
        chosen.append(gpu)
    return tuple(chosen)


def _named(gpus: Sequence[GpuReading], name: str) -> GpuReading | None:
    """The GPU of this index or (abbreviated) UUID, if it is the only one."""
    if name.isdigit():
        found = [gpu for gpu in gpus if gpu.index == int(name)]
    else:
        found = [gpu for gpu in gpus if gpu.uuid and name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)]
    return found[0] if len(found) == 1 else None


def choose_device(
    wanted: str,
    *,
    nvml: Any = None,
    environ: Mapping[str, str] | None = None,
    cuda_build: Callable[[], str | None] = torch_cuda_build,
) -> Device:
    """The device that `compute.gpu` means on this machine.

    Args:
        wanted: "auto" (the allowed GPU with most memory free, else the CPU), "cpu", an index or a UUID.
        cuda_build: the CUDA version the installed torch was built for, None for a CPU build.

    Raises:
        EnvironmentFault: the GPU asked for is not there, not allowed, or torch cannot use it.
    """
    if wanted == "cpu":
        return cpu_device()
    environ = os.environ if environ is None else environ
    if wanted == "auto":
        return auto_devices(nvml=nvml, environ=environ, cuda_build=cuda_build)[0]
    found = _with_mig(survey(nvml), nvml, environ, wanted)
    gpus = allowed(found.gpus, environ)
    gpu = _named(gpus, wanted)
    if gpu is None:
        raise EnvironmentFault(f"compute.gpu: GPU {wanted} is not there; {_what_is_there(found, gpus, environ)}", _OTHER_GPU)
    if not cuda_build():
        raise EnvironmentFault(f"compute.gpu: GPU {gpu.label} is there, but the installed torch is a CPU-only build", _CUDA_TORCH)
    return _device(gpu)


def auto_devices(
    *, nvml: Any = None, environ: Mapping[str, str] | None = None, cuda_build: Callable[[], str | None] = torch_cuda_build
) -> list[Device]:
    """The GPUs that "auto" may choose, the one with most memory free first; the CPU where there is none."""
    environ = os.environ if environ is None else environ
    gpus = allowed(_with_mig(survey(nvml), nvml, environ, "auto").gpus, environ)
    usable = gpus if cuda_build() else ()
    return [_device(gpu) for gpu in sorted(usable, key=_free, reverse=True)] or [cpu_device()]


_OTHER_GPU = "humigence config set compute.gpu auto  chooses one; humigence doctor shows what this machine has"
_CUDA_TORCH = "install a CUDA build: pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"


def _what_is_there(found: Survey, gpus: Sequence[GpuReading], environ: Mapping[str, str]) -> str:
    if not found.gpus:
        return found.problem
    names = ", ".join(gpu.label for gpu in gpus) or "none"
    if "CUDA_VISIBLE_DEVICES" in environ:
        return f"CUDA_VISIBLE_DEVICES={environ['CUDA_VISIBLE_DEVICES']!r} leaves {names}"
    return f"there is {names}"


def _with_mig(found: Survey, nvml: Any, environ: Mapping[str, str], wanted: str) -> Survey:
    """NVML lists whole GPUs only; a MIG slice that is asked for by name is looked up and added."""
    named = [entry.strip() for entry in environ.get("CUDA_VISIBLE_DEVICES", wanted).split(",")]
    slices = [name for name in dict.fromkeys(named) if name.startswith("MIG-")]
    if not slices or not found.gpus:
        return found
    module = nvml or _started_nvml()[0]
    added: list[GpuReading] = []
    for name in slices:
        handle = _ask(module, "nvmlDeviceGetHandleByUUID", name)
        if handle is not None:
            added.append(_reading_of(module, 1000 + len(added), handle))
    return Survey((*found.gpus, *added), found.problem, found.driver_version, found.cuda_version)


def _free(gpu: GpuReading) -> tuple[int, int]:
    return gpu.memory_free_bytes or 0, -gpu.index


def _device(gpu: GpuReading) -> Device:
    return Device(
        kind="cuda",
        name=gpu.name or f"GPU {gpu.index}",
        uuid=gpu.uuid or str(gpu.index),  # CUDA_VISIBLE_DEVICES and compute.gpu take either
        index=gpu.index,
        total_bytes=gpu.memory_total_bytes or 0,
        free_bytes=gpu.memory_free_bytes or 0,
        capability=gpu.capability,
    )


def cpu_device() -> Device:
    """The CPU with the machine's memory."""
    host = read_host()
    return Device(
        "cpu",
        f"CPU ({host.cpu_name})",
        total_bytes=host.memory_total_bytes,
        free_bytes=host.memory_available_bytes,
        bfloat16=multiplies_bfloat16(),
    )
