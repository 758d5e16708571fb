"""What a shared package says of where its base model was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base_model.locate import BaseModel, base_model_at
from pipeline.base_model.reference import Reference, places, reference_of
from pipeline.config.schema import ModelSection
from tests.hub import use_hub_home


def local(path: Path, workspace: Path) -> Reference:
    return reference_of(BaseModel(path, "folder", path.name), ModelSection(local_path=str(path)), workspace)


def test_a_repository_is_named(tmp_path: Path) -> None:
    base = BaseModel(tmp_path, "folder", "owner/name")
    assert reference_of(base, ModelSection(repo="owner/name", revision="v2"), tmp_path) == Reference("owner/name", "v2")


def test_a_local_path_into_the_hub_cache_is_its_repository(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub_home(monkeypatch, tmp_path)
    snapshot = tmp_path / "hub" / "models--owner--a-name" / "snapshots" / "c0ffee"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_model)
    assert local(snapshot, tmp_path / "work") == Reference("owner/a-name", "c0ffee")
    use_hub_home(monkeypatch, tmp_path / "other")
    assert local(snapshot, tmp_path / "work").repo is None, "nobody would find it in another cache"


def test_a_snapshot_is_called_by_its_repository(tmp_path: Path, tiny_model: Path) -> None:
    snapshot = tmp_path / "models--owner--a-name" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    blobs = Path(shutil.copytree(tiny_model, snapshot.parent.parent / "blobs"))
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert base_model_at(snapshot).name == "owner/a-name"


def test_a_path_tells_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, workspace = tmp_path / "ada", tmp_path / "ada" / "work"
    monkeypatch.setenv("HOME", str(home))
    assert str(local(workspace / "models" / "base", workspace)) == "./models/base"
    assert str(local(home / "models" / "base", workspace)) == "~/models/base"
    assert str(local(Path("/srv/models/base"), workspace)) == "/srv/models/base"


def test_every_path_leads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, workspace = tmp_path / "ada", tmp_path / "ada" / "work"
    package = workspace / "artifacts" / "demo"
    package.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for path in (workspace / "models" / "base", home / "models" / "base", Path("/srv/models/base")):
        told = str(local(path, workspace))
        for folder in (workspace, tmp_path):
            monkeypatch.chdir(folder)
            assert path in [place.resolve() for place in places(told, package)], told
