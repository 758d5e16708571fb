"""CPU and memory of this machine as numbers, through psutil and the kernel's own files."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostReading:
    """CPU and memory of this machine, within the limits of the container if there is one."""

    cpu_name: str
    cores: int
    utilization_pct: float | None
    memory_total_bytes: int
    memory_available_bytes: int


def read_host() -> HostReading:
    """CPU and memory. The first call in a process has no utilization yet (0)."""
    import psutil

    memory = psutil.virtual_memory()
    limit, used = _container_memory()
    total = min(memory.total, limit) if limit else memory.total
    available = min(memory.available, max(0, limit - used)) if limit else memory.available
    return HostReading(
        cpu_name=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        utilization_pct=psutil.cpu_percent(interval=None),
        memory_total_bytes=int(total),
        memory_available_bytes=int(available),
    )


def _container_memory(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """(limit, used without what the page cache would give back) of this cgroup; limit 0 where there is none (cgroup v2)."""
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        stat = dict(line.split(" ", 1) for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0, 0
    if not limit.isdigit():
        return 0, 0
    return int(limit), max(0, used - int(stat.get("inactive_file", 0)))


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return "CPU"


def multiplies_bfloat16() -> bool:
    """Whether the processor's flags name bfloat16 products (x86: avx512_bf16, amx_bf16; Arm: bf16). False where nobody says."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
