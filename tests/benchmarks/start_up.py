"""How soon the commands answer, each in a fresh process: the light ones, and the data step on the twelve bundled rows.

The last has its libraries to load and a tokenizer to read, which small sets of rows are mostly waiting for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.harness import Figure, median
from tests.benchmarks.measure import Clock

ROUNDS = 7


def measure() -> list[Figure]:
    from tests import tiny

    with tempfile.TemporaryDirectory(prefix="start-up-") as temporary:
        folder = Path(temporary)
        model = tiny.save_model(folder / "model")
        config = {"model": {"local_path": str(model)}, "data": {"source": "bundled"}}
        (folder / "bench.json").write_text(json.dumps(config))
        return [
            Figure("humigence --help, median", _seconds(folder, "--help"), "s", 1.0),
            Figure("humigence runs, median", _seconds(folder, "runs"), "s", 1.0),
            Figure("humigence preprocess of 12 rows, median", _seconds(folder, "preprocess", "--config", "bench.json"), "s"),
        ]


def _seconds(folder: Path, *arguments: str) -> float:
    """Median of the rounds; what was prepared is thrown away before each."""
    taken = []
    for _ in range(ROUNDS + 1):
        subprocess.run(["rm", "-rf", str(folder / "data/processed")], check=True)
        clock = Clock()
        command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", *arguments]
        subprocess.run(command, cwd=folder, check=False, capture_output=True)
        taken.append(clock.seconds())
    return median(taken[1:])  # the first reads the disk
