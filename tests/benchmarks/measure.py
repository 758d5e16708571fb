"""What every benchmark tells of itself: the machine, the versions, and one JSON file of results."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "peft", "bitsandbytes")
RESULTS = Path(__file__).parent / "results"


def write_result(name: str, result: dict[str, Any], out: Path | None = None) -> Path:
    """`results/<name>.json`, with where and when and with what it was measured."""
    path = (out or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    packages = {
        package: _version(package) for package in ("torch", "transformers", "tokenizers", "datasets", "bitsandbytes", "trl")
    }
    about = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {package: found for package, found in packages.items() if found},
        "processors": len(os.sched_getaffinity(0)),
        "processor": _processor(),
    }
    path.write_text(json.dumps({**about, **result}, indent=2) + "\n", encoding="utf-8")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def in_process(module: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """The JSON that `python -m module arguments` prints last, with `peak_gib`: of it and its children, shared memory once."""
    command = [python, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
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
