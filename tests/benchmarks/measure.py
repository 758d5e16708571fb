"""A measurement in a process of its own: what it prints, and the memory it and its children took."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from typing import Any

import psutil


def in_process(module: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """The JSON that `python -m module arguments` prints last, with `peak_gib`: of it and its children, shared memory once."""
    command = [python, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = _peak_bytes(psutil.Process(process.pid), process)
        out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{err[-3000:]}")
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result | {"peak_gib": round(peak / 2**30, 3)}


def _peak_bytes(root: psutil.Process, process: subprocess.Popen[str]) -> int:
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, sum(_bytes(each) for each in (root, *root.children(recursive=True))))
        time.sleep(0.5)
    return peak


def _bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def processor_seconds() -> float:
    """Of this process and those it has waited for: what work costs, whoever else is on the machine."""
    return sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Clock:
    """Since it was made."""

    def __init__(self) -> None:
        self._began, self._processor = time.perf_counter(), processor_seconds()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def processor_seconds(self) -> float:
        return processor_seconds() - self._processor


def report(rows: int, seconds: float, **more: Any) -> None:
    """What a measuring process prints."""
    print(json.dumps({"rows": rows, "seconds": round(seconds, 3), **more}))
