"""Where a command finds itself: no streams, no folder under it, a folder no library can name. Told in words, never as a bug."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.system import faults as machine_faults
from tests.processes import environment
from tests.waiting import PATIENCE_S

HUMIGENCE = f"{sys.executable} -P -m humigence_tui.cli.main"
_OPEN_A_FILE = """
import os, sys
from humigence_tui.terminal.safe_streams import open_standard_streams
open_standard_streams()
log = os.open("log", os.O_WRONLY | os.O_CREAT)
print("a library prints")
print("and complains", file=sys.stderr, flush=True)
os.write(1, b"from C as well")
sys.exit(0 if log > 2 else 1)
"""


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_without_a_stream_a_command_works_and_writes_its_words_into_no_file(closed: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(_OPEN_A_FILE)
    assert shell(f"{sys.executable} code.py {closed}", tmp_path).returncode == 0
    assert (tmp_path / "log").read_bytes() == b""
    assert shell(f"{HUMIGENCE} config set seed 7 --json {closed}", tmp_path).returncode == 0
    (saved,) = tmp_path.glob("configs/*.json")
    assert json.loads(saved.read_text())["seed"] == 7


@pytest.mark.parametrize("program", [HUMIGENCE + " runs", HUMIGENCE + " doctor", f"{sys.executable} -P -m humigence_tui"])
def test_a_folder_that_was_deleted_under_the_shell_is_told(program: str, tmp_path: Path) -> None:
    done = shell(f"mkdir gone && cd gone && rmdir ../gone && exec {program}", tmp_path)
    assert done.returncode == 2
    assert "the current folder is not there any more" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("config set seed 7 2>/dev/full", 0),
        ("runs show nothing 2>/dev/full", 5),
        ("config set sed 7 2>/dev/full", 2),
        ("config keys >/dev/full", 4),
        ("config keys >/dev/full 2>/dev/full", 4),
    ],
)
def test_a_full_disk_under_the_talk_changes_no_exit_code_one_under_the_data_does(line: str, code: int, tmp_path: Path) -> None:
    assert shell(f"{HUMIGENCE} {line}", tmp_path).returncode == code


def test_what_the_system_refuses_is_put_into_words(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"not utf-8 \xff")
    lone = UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
    assert isinstance(told := machine_faults.as_fault(lone, odd), BadInput) and "not UTF-8" in told.message
    assert machine_faults.as_fault(lone, tmp_path) is None, "half a character in data is another matter"
    assert machine_faults.as_fault(FileNotFoundError(2, "no such file", "x"), tmp_path) is None
    for number, kind, words in ((24, EnvironmentFault, "too many files"), (116, EnvironmentFault, "the disk failed (stale")):
        fault = machine_faults.as_fault(OSError(number, os.strerror(number)), tmp_path)
        assert isinstance(fault, kind) and words in fault.message


def test_links_that_lead_in_a_circle_are_told(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("runs")
    (tmp_path / "mine.json").write_text(json.dumps(Config().to_json()))
    done = shell(f"{HUMIGENCE} pipeline --config mine.json", tmp_path)
    assert done.returncode == 2 and "links lead in a circle" in done.stderr, done.stderr
