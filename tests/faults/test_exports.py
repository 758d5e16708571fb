"""Exports of gigabytes: whatever ends their making, the package that stands is whole, and the next start makes the rest."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import read_json
from pipeline.export.package_folder import differing
from pipeline.export.proof.proof import Proof
from pipeline.runs import control
from tests import tiny
from tests.faults.declared import survives
from tests.faults.disks import Disk
from tests.faults.packages import adapter_is_whole, package_of
from tests.faults.workers import Project, Workers, when

pytestmark = pytest.mark.slow

_OTHERS = ("gguf_q4_0", "ollama", "runtime_int8", "vllm_int8")
FORMATS = ["gguf_q8_0", *(pytest.param(each, marks=pytest.mark.matrix) for each in _OTHERS)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a vocabulary that llama.cpp has a program for."""
    return tiny.save_model(tmp_path_factory.mktemp("model"), template=tiny.CHATML, llama=False)


def _project(root: Path, model: Path, workers: Workers, name: str) -> Project:
    return Project(root, model, workers, train={"max_steps": 3}, export={"formats": ["peft_adapter", name]})


def _is_whole_and_proved(project: Project, name: str) -> bool:
    package = package_of(project)
    assert differing(package) == [] and [path.name for path in package.parent.iterdir()] == ["tiny"]
    manifest = read_json(package / "humigence.json")
    assert manifest["formats"] == ["peft_adapter", name] and project.state.steps["train"].outcome == "unchanged"
    return Proof.from_json(manifest[name]["proof"]).is_proved


@survives(
    "disk",
    "a GGUF file, or another export of the whole model, does not fit",
    "found out before it is written; while it is written",
    "exit 4 with words; the adapter is packaged, nothing half written is left, and the next start only exports",
)
@pytest.mark.parametrize("moment", [when("packed", format="peft_adapter"), {"in_merge": True}], ids=["before", "while"])
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_does_not_fit_costs_nothing_else(
    disk: Disk, workers: Workers, model: Path, name: str, moment: dict[str, Any]
) -> None:
    project = _project(disk.path, model, workers, name)
    assert project.to_its_end(moment | {"do": "fill", "file": str(disk.filler)}) == 4
    error = project.state.error
    assert ("are needed" in error.message or "the disk is full" in error.message) and "make room" in error.hint
    assert adapter_is_whole(project)
    disk.make_room()
    assert project.to_its_end() in (0, 3)
    assert _is_whole_and_proved(project, name)


@survives(
    "death",
    "kill -9 of the worker while it exports a GGUF file or another whole model",
    "in the middle of a weight; while llama.cpp has the file open",
    "the adapter is packaged; the next start only exports, and what it makes is opened and proved",
)
@survives(
    "training",
    "memory runs out while a GGUF file is written",
    "once; for good",
    "fewer rows are summed at once; where not even one fits, exit 4 with words and the export's own command",
)
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_dies_or_finds_no_memory_costs_nothing_else(
    tmp_path: Path, model: Path, workers: Workers, name: str
) -> None:
    project = _project(tmp_path / "work", model, workers, name)
    assert project.to_its_end({"in_merge": True, "do": "signal", "signal": signal.SIGKILL}) == -signal.SIGKILL
    assert control.status_of(project.run, project.state) == "crashed" and adapter_is_whole(project)
    assert project.to_its_end({"short_of_memory_at": "merge", "times": 10**6}, resume=True) == 4
    error = project.state.error
    assert error.message.startswith("memory ran out while") and f"humigence export {name} goes on" in error.hint
    assert adapter_is_whole(project)
    if "int8" not in name:
        assert project.to_its_end({"in_proof": True, "do": "signal", "signal": signal.SIGKILL}) == -signal.SIGKILL
        assert adapter_is_whole(project)
    assert project.to_its_end({"short_of_memory_at": "merge", "times": 1}) in (0, 3)
    assert _is_whole_and_proved(project, name)
