"""Writing: after an interruption anywhere a reader finds the old state or the new one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pipeline.common import files
from tests.processes import python

# Kills itself before or after the n-th call that reaches the disk; exits 0 when the work was done before that.
_KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.common import files

target, left = Path(sys.argv[1]), [int(sys.argv[2])]

def deadly(name):
    real = getattr(os, name)
    def call(*arguments, **options):
        count()
        result = real(*arguments, **options)
        count()
        return result
    return call

def count():
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)

for name in ("write", "fsync", "fchmod", "replace", "rename", "open", "mkdir"):
    setattr(os, name, deadly(name))
"""
_NEW = {"state": "new", "padding": "x" * 200_000}
_WRITE = _KILLED + "files.write_json(target, {'state': 'new', 'padding': 'x' * 200_000}, keep_backup=True)"
_FOLDER = (
    _KILLED
    + """
with files.new_folder(target) as folder:
    for name in ("a", "b"):
        (folder / name).write_text("new")
"""
)
_MOST_CALLS = 100


def test_a_write_killed_at_any_moment_leaves_the_old_document_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    files.write_json(target, {"state": "old"})
    killed = 0
    for calls in range(_MOST_CALLS):
        code = python(_WRITE, target, calls).returncode
        assert files.read_json(target) == ({"state": "old"} if code else _NEW) or (code and files.read_json(target) == _NEW)
        backup = tmp_path / "config.json.bak"
        assert not backup.exists() or files.read_json(backup)["state"] in ("old", "new")
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        files.write_json(target, {"state": "old"})
    assert killed >= 4, "the write reaches the disk at least four times: flush, mode, rename, folder"


def test_a_folder_killed_at_any_moment_is_whole_or_not_there(tmp_path: Path) -> None:
    killed = 0
    for calls in range(_MOST_CALLS):
        target = tmp_path / f"{calls}" / "checkpoint"
        code = python(_FOLDER, target, calls).returncode
        if target.exists():
            assert sorted((file.name, file.read_text()) for file in target.iterdir()) == [("a", "new"), ("b", "new")]
        if code == 0:
            assert target.exists()
            break
        killed += 1
    assert killed >= 5


def test_an_older_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with files.new_folder(tmp_path / "pack") as folder:
            (folder / content).write_text(content)
    assert [file.name for file in (tmp_path / "pack").iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["pack"]


def test_a_folder_whose_filling_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "pack") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(target, 2)
    assert files.read_json(target) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "secret.json"
    files.write_json(target, 1)
    target.chmod(0o640)
    files.write_json(target, 2)
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_name_that_is_not_utf8_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    files.write_json(tmp_path / "a.json", {"file": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["file"] == name


def test_a_number_that_is_not_finite_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert files.fingerprint({"a": 1, "b": [1.5, None]}) == files.fingerprint({"b": [1.5, None], "a": 1})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": "1"}) != files.fingerprint({"a": 2})
    assert files.fingerprint("a", "b") != files.fingerprint("ab")
