"""A bit that flipped in a model of the hub cache is found, and only what is known is called right."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from humigence_tui.cli.main import main
from tests.hub import use_hub_home


@pytest.fixture
def cached(workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as the hub's client keeps it: the weights named by SHA-256, the rest as git names them."""
    use_hub_home(monkeypatch, workspace)
    (workspace / "mine.json").write_text(json.dumps({"model": {"repo": "owner/name"}}))
    repository = workspace / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    for file in tiny_model.iterdir():
        content = file.read_bytes()
        large = file.suffix == ".safetensors"
        digest = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        (repository / "blobs" / digest.hexdigest()).write_bytes(content)
        (snapshot / file.name).symlink_to(f"../../blobs/{digest.hexdigest()}")
    return snapshot


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_flipped_bit_is_found_and_told_with_what_to_do(cached: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["model", "check", "--config", "mine.json", "--contents"]
    assert main(check) == 0
    assert f"{len(list(cached.iterdir()))} files as the hub announced them" in capsys.readouterr().out
    blob = (cached / name).resolve()
    data = bytearray(blob.read_bytes())
    data[-9] ^= 1
    blob.write_bytes(data)
    assert main(check[:-1]) == 0, "names, sizes and headers are as before"
    capsys.readouterr()
    assert main([*check, "--json"]) == 2
    told = capsys.readouterr()
    assert f"{name} is not what the hub announced" in told.err and f"rm {blob}" in told.err and not told.out


def test_a_folder_of_ones_own_is_never_called_right(
    workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, workspace / "blobs")  # the name alone says nothing
    (workspace / "mine.json").write_text(json.dumps({"model": {"local_path": "blobs"}}))
    assert main(["model", "check", "--config", "mine.json", "--contents"]) == 0
    assert "nothing to compare with" in capsys.readouterr().out
    assert main(["model", "check", "--config", "mine.json", "--contents", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["contents"]["as_announced"] == []
