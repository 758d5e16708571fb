"""The merged model: whatever ends its making, the adapter's package is whole, and the next start makes the same model."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import merge_files
from pipeline.export.package_folder import differing
from pipeline.runs import control
from tests.faults.declared import survives
from tests.faults.disks import Disk
from tests.faults.packages import adapter_is_whole, package_of
from tests.faults.workers import Project, Workers, when

pytestmark = pytest.mark.slow

_BOTH = {"train": {"max_steps": 3}, "export": {"formats": ["peft_adapter", "merged"]}}


def _merged_as_untroubled(project: Project, model: Path, place: Path) -> bool:
    """Whether the merged weights are those of the base and the adapter beside them, and nothing is left over.

    To the last place but one: fewer rows at once are summed in another order.
    """
    package = package_of(project)
    place.mkdir()
    merge_files([model / "model.safetensors"], Adapter(package), place, lambda _: None)
    assert differing(package) == [] and [path.name for path in package.parent.iterdir()] == ["tiny"]
    expected, found = (load_file(folder / "model.safetensors") for folder in (place, package / "merged"))
    return set(found) == set(expected) and all(np.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@survives(
    "disk",
    "the merged model does not fit",
    "found out before it is written; while it is written",
    "exit 4 with words; the adapter is packaged, nothing half merged is left, and the next start only merges",
)
@pytest.mark.parametrize("moment", [when("packed", format="peft_adapter"), {"in_merge": True}], ids=["before", "while"])
def test_a_merged_model_that_does_not_fit_costs_nothing_else(
    disk: Disk, workers: Workers, tiny_model: Path, tmp_path: Path, moment: dict[str, object]
) -> None:
    project = Project(disk.path, tiny_model, workers, **_BOTH)
    assert project.to_its_end(moment | {"do": "fill", "file": str(disk.filler)}) == 4
    error = project.state.error
    assert ("are needed" in error.message or "the disk is full" in error.message) and "make room" in error.hint
    assert adapter_is_whole(project)
    disk.make_room()
    assert project.to_its_end() in (0, 3)
    assert project.state.steps["train"].outcome == "unchanged"
    assert _merged_as_untroubled(project, tiny_model, tmp_path / "untroubled")


@survives(
    "death",
    "kill -9 of the worker while it merges",
    "in the middle of a weight",
    "the adapter is packaged; the next start only merges, and makes the model of an untroubled run",
)
@survives(
    "training",
    "memory runs out while weights are merged",
    "once; for good",
    "fewer rows are merged at once; where not even one fits, exit 4 with words, the adapter packaged and the rest kept",
)
def test_a_merging_that_dies_or_finds_no_memory_costs_nothing_else(tmp_path: Path, tiny_model: Path, workers: Workers) -> None:
    project = Project(tmp_path / "work", tiny_model, workers, **_BOTH)
    assert project.to_its_end({"in_merge": True, "do": "signal", "signal": signal.SIGKILL}) == -signal.SIGKILL
    assert control.status_of(project.run, project.state) == "crashed"
    assert adapter_is_whole(project)
    assert project.to_its_end({"short_of_memory_at": "merge", "times": 10**6}, resume=True) == 4
    error = project.state.error
    assert error.message.startswith("memory ran out while merging model.layers.0") and "humigence merge" in error.hint
    assert adapter_is_whole(project)
    assert project.to_its_end({"short_of_memory_at": "merge", "times": 1}) in (0, 3)
    assert project.state.steps["train"].outcome == "unchanged"
    assert _merged_as_untroubled(project, tiny_model, tmp_path / "untroubled")
