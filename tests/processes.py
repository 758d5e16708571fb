"""Python in a fresh process: for what happens at import, at a crash, and between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import WHOLE_RUN_S, next_line

ROOT = Path(__file__).resolve().parent.parent
# The repository first, then whatever this process was given.
IMPORT_PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with the repository importable, without the switches of the command line, and with no GPU: what
    tests start computes on the CPU unless it is told otherwise."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TRAIN", "VALIDATION_ONLY", "HUMIGENCE_DEBUG")}
    return kept | {"PYTHONPATH": IMPORT_PATH, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120", "CUDA_VISIBLE_DEVICES": ""} | changes


def python(code: str, *arguments: object, cwd: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `code` to its end; `sys.argv[1:]` are the arguments."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", cwd=cwd, env=environment(**changes), timeout=WHOLE_RUN_S,
        check=False,
    )  # fmt: skip


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `code` and wait for the line "ready" on its standard output: it is killed when that is late."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert next_line(process, process.stdout).strip() == "ready"
    return process


def humigence(*arguments: str, cwd: Path, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """The `humigence` command in a fresh process; neither of its streams is a terminal."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "humigence_tui.cli.main", *arguments],
        input=stdin, capture_output=True, text=True, encoding="utf-8", cwd=cwd, env=environment(**changes), timeout=WHOLE_RUN_S,
        check=False,
    )  # fmt: skip


HEAVY = ("torch", "transformers", "datasets", "peft", "bitsandbytes", "tokenizers", "huggingface_hub", "pyarrow")
