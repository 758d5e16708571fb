"""Versions of libraries that people use and this project does not: fetched beside the installed ones, asked in a process."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment
from tests.waiting import WHOLE_RUN_S

_PLACE = Path(__file__).parents[1] / ".pytest_cache" / "older-libraries"
_TRANSFORMERS_4 = ("transformers==4.57.*", "huggingface_hub<1", "tokenizers>=0.22,<=0.23.0")
SETS = {
    "transformers 4.57, peft 0.13": (*_TRANSFORMERS_4, "peft==0.13.*"),
    "transformers 4.57, peft 0.11": (*_TRANSFORMERS_4, "peft==0.11.*"),
}


def folder_of(name: str) -> Path:
    """Where the set lies, for PYTHONPATH. The test is skipped where the registry can't be reached."""
    into = _PLACE / name.replace(" ", "-").replace(",", "")
    into.parent.mkdir(parents=True, exist_ok=True)
    with into.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (into / "whole").exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(into), *SETS[name]]
            done = subprocess.run(command, capture_output=True, text=True, timeout=WHOLE_RUN_S, check=False)
            if done.returncode:
                pytest.skip(f"pip cannot fetch {name}: {done.stderr.strip().splitlines()[-1][:200]}")
            (into / "whole").touch()
    return into


def asked(name: str, program: str, *arguments: str, cwd: Path) -> Any:
    """What a program prints as JSON on its last line, run with the set in the place of the installed libraries."""
    path = {"PYTHONPATH": str(folder_of(name)), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, env=environment(**path), capture_output=True, text=True,
        timeout=WHOLE_RUN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
