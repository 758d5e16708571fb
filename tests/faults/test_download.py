"""A download onto a disk that is, or becomes, too small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.declared import survives
from tests.faults.disks import Disk
from tests.pipeline.steps.hub import serving
from tests.processes import IMPORT_PATH

_DOWNLOAD = """
import json, sys
from pathlib import Path
from pipeline.config.schema import Config
from pipeline.runs.context import StepContext
from pipeline.common.errors import HumigenceError
from pipeline.hub import download, fetch
from pipeline.runs.folders import Workspace
from pipeline.steps import model
fetch.WAITS_S = fetch.FIRST_WAITS_S = (0.0,) * 3
if sys.argv[1] == "while":
    download.disk.require_free = lambda *_: None  # there was room when it was looked for
download._ROOM_TO_SPARE = 1 << 20
ctx = StepContext(Config.model_validate({"model": {"repo": "owner/name"}}), Workspace(Path.cwd()))
try:
    print(json.dumps({"outcome": model.run(ctx).outcome}))
except HumigenceError as error:
    print(json.dumps({"code": error.exit_code, "message": error.message, "hint": error.hint}))
"""


def _download(address: str, folder: Path, cache: Path, moment: str) -> dict[str, Any]:
    environment = {"PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", _DOWNLOAD, moment],
        cwd=folder, env=environment | {"HF_ENDPOINT": address}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@survives(
    "disk",
    "a download does not fit",
    "found out before it begins; while it is fetched",
    "exit 4 with how much is needed or where the disk is full; started again with room, it ends with the whole model",
)
@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_download_that_does_not_fit_is_told_and_goes_on_later(
    disk: Disk, tmp_path: Path, tiny_model: Path, moment: str
) -> None:
    cache = disk.path / "hf"
    with serving(tiny_model) as (address, _):
        disk.fill(leave=300 << 10)
        told = _download(address, tmp_path, cache, moment)
        assert told["code"] == 4 and "make room" in told["hint"]
        assert ("are needed" if moment == "before" else "the disk is full") in told["message"]
        disk.make_room()
        assert _download(address, tmp_path, cache, moment) == {"outcome": "done"}
    found = next(cache.rglob("snapshots/*/model.safetensors"))
    assert found.read_bytes() == (tiny_model / "model.safetensors").read_bytes()
