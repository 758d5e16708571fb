"""What every benchmark shares: figures with what they need to be, and a report with the machine they were measured on."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).with_name("results")
ROOT = Path(__file__).resolve().parents[2]


class Figure(NamedTuple):
    """One measured number. `most`: what it may be; None where it is only told."""

    name: str
    value: float
    unit: str
    most: float | None = None

    @property
    def good(self) -> bool:
        return self.most is None or self.value <= self.most


def run(name: str, measure: Callable[[], Sequence[Figure]]) -> bool:
    """Measure, print a line a figure, and write `results/NAME.json`; whether every figure is what it needs to be."""
    began, load = time.time(), os.getloadavg()[0]
    print(f"{name}   (load {load:.1f} on {os.cpu_count()} processors)", flush=True)
    figures = list(measure())
    for figure in figures:
        needs = f"   needs ≤ {figure.most:g} {figure.unit}" if figure.most is not None else ""
        print(f"  {'✔' if figure.good else '✘'} {figure.name:<58}{figure.value:>10.4g} {figure.unit}{needs}", flush=True)
    document = {
        "benchmark": name,
        "command": f"python -m tests.benchmarks {name}",
        "figures": [_spelled(each) for each in figures],
    }
    load_after, seconds = os.getloadavg()[0], round(time.time() - began, 1)
    write_result(RESULTS / f"{name}.json", document, load_before=load, load_after=load_after, seconds=seconds)
    return all(figure.good for figure in figures)


def write_result(path: Path, document: dict[str, Any], **how: object) -> None:
    """Write what was measured, and what it means nothing without: the machine, the versions, the commit. The one way to keep a
    result; `tests.benchmarks.performance` reads it.

    Args:
        how: more about the circumstances, beside the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine() | how, **document}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What this was measured on, and when. `device` is the GPU, where the process has looked for one."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if torch is not None and on_gpu else processor(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def _spelled(figure: Figure) -> dict[str, Any]:
    return {"name": figure.name, "value": float(f"{figure.value:.4g}"), "unit": figure.unit, "most": figure.most}


def versions() -> dict[str, str]:
    """Of the libraries that decide how fast it is, where they are installed."""
    found = {}
    for package in ("torch", "triton", "transformers", "tokenizers", "datasets", "peft", "bitsandbytes", "textual"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed; NaN without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)
