"""A measurement in a process of its own: what it prints, and the memory it and its children took."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil


def in_process(module: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """The JSON that `python -m module arguments` prints last, with the memory of it and its children, shared memory once.

    `peak_gib` is all that was in memory; `own_gib` leaves out what is mapped from files, which the kernel takes back as it likes.
    """
    command = [python, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak, own = _peaks(psutil.Process(process.pid), process)
        out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{err[-3000:]}")
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result | {"peak_gib": round(peak / 2**20, 3), "own_gib": round(own / 2**20, 3)}


def _peaks(root: psutil.Process, process: subprocess.Popen[str]) -> tuple[int, int]:
    """Of all that is in memory and of what no file holds, in KiB."""
    peak = own = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            held = [_held(each.pid) for each in (root, *root.children(recursive=True))]
            peak = max(peak, sum(each.get("Pss", 0) for each in held))
            own = max(own, sum(each.get("Pss", 0) - each.get("Pss_File", 0) for each in held))
        time.sleep(0.2)
    return peak, own


def _held(pid: int) -> dict[str, int]:
    """What the kernel adds up of a process's memory, in KiB; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name.rstrip(":"): int(size) for name, size, _ in map(str.split, lines)}


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
