"""A run's process is gone when the command that started it returns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.runner.launch import Started, outlasts
from pipeline.runs.folders import RunFolder
from tests.waiting import killed


def test_a_process_that_stays_is_named_and_one_that_has_gone_is_not(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    started = Started(RunFolder(tmp_path), worker=process)
    try:
        assert outlasts(started, 0.05) == process.pid
        assert process.stdin is not None
        process.stdin.close()
        assert outlasts(started) is None
        assert process.returncode == 0
    finally:
        killed(process)
    assert outlasts(Started(RunFolder(tmp_path), standing=True)) is None
