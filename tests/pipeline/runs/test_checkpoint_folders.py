"""Checkpoint folders: whole or passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.runs import checkpoint_folders
from pipeline.runs.checkpoint_folders import MANIFEST, all_of, folder_name, new_checkpoint, newest_whole, rotate, step_of
from tests.waiting import PATIENCE_S


def save(checkpoints: Path, *steps: int) -> None:
    for step in steps:
        with new_checkpoint(checkpoints, step) as folder:
            (folder / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 1000)
            (folder / "optimizer.safetensors").write_bytes(b"o" * 2000)


def cut_short(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


def lose_the_optimizer(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def spoil_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, lose_the_optimizer, lose_the_manifest, spoil_the_manifest])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    save(tmp_path, 10, 20)
    told: list[str] = []
    assert newest_whole(tmp_path, lambda folder, _: told.append(folder.name)) == tmp_path / folder_name(20)
    damage(tmp_path / folder_name(20))
    assert newest_whole(tmp_path, lambda folder, _: told.append(folder.name)) == tmp_path / folder_name(10)
    assert told == [folder_name(20)]


def test_a_save_that_fails_leaves_nothing_that_looks_like_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(OSError, match="disk full"), new_checkpoint(tmp_path, 20) as folder:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError("disk full")
    assert [step_of(path) for path in all_of(tmp_path)] == [10]


def test_the_best_and_the_two_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 30, 40)
    rotate(tmp_path, newest=40, keep={10})
    assert [step_of(path) for path in all_of(tmp_path)] == [10, 30, 40]


def test_checkpoints_of_a_course_that_was_left_do_not_push_out_newer_ones(tmp_path: Path) -> None:
    """40 was damaged, so the run went on from 20 and has just saved 25."""
    save(tmp_path, 10, 20, 40, 25)
    (tmp_path / ".step-000040.x.tmp").mkdir()
    rotate(tmp_path, newest=25, keep={10})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [folder_name(step) for step in (10, 20, 25)]


def test_looking_for_a_checkpoint_needs_no_torch() -> None:
    import subprocess
    import sys

    code = f"import sys, {checkpoint_folders.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 0
