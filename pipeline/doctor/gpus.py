"""The GPUs: which there are, what is free, and why there are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.check import Check
from pipeline.system.gpu import GIB, GpuReading, Survey

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def checks(found: Survey) -> Iterator[Check]:
    if not found.gpus:
        yield _none(found)
        return
    yield Check("NVIDIA driver", "ok", f"{found.driver_version or 'unknown'}, CUDA up to {found.cuda_version or 'unknown'}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        hides = ("", "") if visible else ("it hides every GPU", "unset CUDA_VISIBLE_DEVICES")
        yield Check("CUDA_VISIBLE_DEVICES", "ok" if visible else "warning", repr(visible), *hides)
    yield from map(_gpu, found.gpus)


def _none(found: Survey) -> Check:
    if "mismatch" in found.problem.lower():
        advice = "the driver was updated and the old one is still loaded"
        return Check("GPU", "problem", found.problem, advice, "sudo reboot")
    if _card_without_driver():
        advice = "an NVIDIA card is in this machine and no driver drives it; in a container: docker run --gpus all"
        return Check("GPU", "warning", found.problem or "none", advice, "sudo ubuntu-drivers install")
    return Check("GPU", "warning", found.problem or "none", "training runs on the CPU: fine for the demo, slow for more")


def _card_without_driver() -> bool:
    """Whether the PCI bus has an NVIDIA display controller or accelerator."""
    try:
        return any(_read(card / "vendor") == _NVIDIA and _read(card / "class").startswith(_DISPLAY) for card in _PCI.iterdir())
    except OSError:
        return False


def _read(path: Path) -> str:
    return path.read_text().strip()


def _gpu(gpu: GpuReading) -> Check:
    free, total = gpu.memory_free_bytes, gpu.memory_total_bytes
    memory = f", {free / GIB:.1f} of {total / GIB:.1f} GiB free" if free is not None and total else ""
    busy = free is not None and total and free < total / 4
    mend = ("something else holds most of its memory", "nvidia-smi  # shows which processes") if busy else ("", "")
    capability = f", capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability else ""
    value = f"{gpu.name or 'unknown'}{memory}{capability}"
    return Check(f"GPU {gpu.index}", "warning" if busy else "ok", value, *mend)
