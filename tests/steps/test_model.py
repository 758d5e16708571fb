"""The model step against a small hub on the loopback interface, each time in a process of its own: the hub's client reads its
settings when it is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import IMPORT_PATH
from tests.steps.hub import serving

PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.config import Config
from pipeline.context import StepContext
from pipeline.errors import HumigenceError
from pipeline.runs import Workspace
from pipeline.steps import model
if "little room" in sys.argv:
    model.free_disk_bytes = lambda path: 1000
seen = []
config = Config.model_validate({"model": json.loads(sys.argv[1])})
ctx = StepContext(config, Workspace(Path.cwd()), emit=seen.append)
before = model.is_unchanged(ctx)
try:
    result = model.run(ctx)
    answer = {"outcome": result.outcome, "summary": result.summary}
except HumigenceError as error:
    answer = {"code": error.exit_code, "message": error.message, "hint": error.hint}
last = [[event.done, event.total, event.unit] for event in seen][-1:]
print(json.dumps({**answer, "last": last, "unchanged": [before, model.is_unchanged(ctx)], "torch": "torch" in sys.modules}))
"""


def run_model(folder: Path, model: dict[str, Any], *arguments: str, **environ: str) -> dict[str, Any]:
    environment = {"PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(model), *arguments],
        cwd=folder, env=environment | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not answer["torch"]
    return answer


@pytest.fixture
def repository(tiny_model: Path, tmp_path: Path) -> Path:
    """A repository as they are: weights twice, pickles, code, another form of the weights in a subfolder."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "repository"))
    for name in (
        "pytorch_model.bin",
        "modeling_evil.py",
        "consolidated.safetensors",
        "original/consolidated.00.pth",
        "README.md",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 100)
    return folder


def test_a_repository_is_downloaded_without_pickles_and_code_and_then_stands(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (address, asked):
        first = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
        fetched = [path.rsplit("/", 1)[-1] for path in asked if "/resolve/" in path]
        again = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
    assert first["outcome"] == "done" and first["unchanged"] == [False, True]
    done, total, unit = first["last"][0]
    assert done == total >= (repository / "model.safetensors").stat().st_size and unit == "bytes"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(fetched)
    assert not {name for name in fetched if name.endswith((".bin", ".py", ".pth")) or "consolidated" in name}
    assert again["outcome"] == "unchanged" and again["unchanged"] == [True, True]
    offline = run_model(tmp_path, {"repo": "owner/name"}, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1")
    assert offline["outcome"] == "unchanged"


def test_offline_and_not_here_is_a_missing_artifact_with_the_next_command(tmp_path: Path) -> None:
    answer = run_model(tmp_path, {"repo": "owner/name"}, HF_HUB_OFFLINE="1")
    assert answer["code"] == 5 and "HF_HUB_OFFLINE" in answer["message"] and "humigence model download" in answer["hint"]


@pytest.mark.parametrize(
    ("model", "code", "message", "hint"),
    [
        ({"repo": "owner/nothing"}, 2, "no repository owner/nothing", "spelling"),
        ({"repo": "owner/gated"}, 2, "owner/gated is gated", "HF_TOKEN"),
        ({"repo": "owner/name", "revision": "v9"}, 2, "no revision 'v9'", "model.revision null"),
        ({"repo": "owner/broken"}, 4, "the hub failed on owner/broken", "try again"),
        ({"repo": "not a name"}, 2, "not a repository name", "model.repo"),
        ({"local_path": "nowhere"}, 5, "nowhere is not there", "model.local_path"),
    ],
)
def test_what_the_hub_answers_is_told_apart(
    repository: Path, tmp_path: Path, model: dict[str, str], code: int, message: str, hint: str
) -> None:
    with serving(repository) as (address, _):
        answer = run_model(tmp_path, model, HF_ENDPOINT=address)
    assert answer["code"] == code and message in answer["message"] and hint in answer["hint"]


def test_no_network_is_an_environment_fault(tmp_path: Path) -> None:
    answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT="http://127.0.0.1:1")
    assert answer["code"] == 4 and "no connection to the hub" in answer["message"]


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(repository: Path, tmp_path: Path) -> None:
    (repository / "model.safetensors").unlink()
    (repository / "consolidated.safetensors").unlink()
    with serving(repository) as (address, asked):
        answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
    assert answer["code"] == 2 and "only pickled ones" in answer["message"]
    assert not [path for path in asked if "/resolve/" in path]


def test_the_room_on_disk_is_checked_before_anything_is_fetched(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (address, asked):
        answer = run_model(tmp_path, {"repo": "owner/name"}, "little room", HF_ENDPOINT=address)
    assert answer["code"] == 4 and "HF_HOME" in answer["hint"]
    assert not [path for path in asked if "/resolve/" in path]


def test_what_was_downloaded_and_is_no_model_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "tokenizer.json").unlink()
    with serving(repository) as (address, _):
        answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
    assert answer["code"] == 2 and "no tokenizer" in answer["message"]
