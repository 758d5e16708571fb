"""The most memory this process held on its device, as the driver counts it: that is what runs out."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from pipeline.planning.memory_plain import CONTEXT_BYTES
from pipeline.system import gpu


class ProcessMemory:
    """Peak memory since `reset`. On a GPU torch's blocks, and beside them the CUDA context and its libraries' own memory.

    On a CPU it is that of the whole process since it began: the system counts no other.
    """

    def __init__(self, *, cuda: bool) -> None:
        self._cuda = cuda
        self._context: int | None = None

    def reset(self) -> None:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """Bytes; 0 where the system does not report them."""
        if not self._cuda:
            return peak_resident_bytes()
        if self._context is None:  # after the first step: by then every kernel and workspace is loaded
            self._context = _context_bytes()
        return int(torch.cuda.max_memory_reserved()) + self._context


def _context_bytes() -> int:
    """What the driver counts for this process beyond torch's blocks; a usual figure where it reports none (in a container)."""
    torch.cuda.synchronize()
    ours = os.getpid()
    for reading in gpu.read_gpus():
        for process in reading.processes or ():
            if process.pid == ours and process.used_bytes:
                return max(0, process.used_bytes - int(torch.cuda.memory_reserved()))
    return CONTEXT_BYTES["cuda"]


def peak_resident_bytes() -> int:
    """The most memory this process ever held, bytes (VmHWM of proc(5)); 0 where the system does not report it."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024  # "kB" means KiB there
