from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.runs import event_log, fold_cache
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import Workspace
from tests.recordings.make import SHORT, write


@pytest.mark.parametrize("name", [name for name in SHORT if name != "diverged"])  # NaN equals nothing, not even itself
def test_the_cache_gives_back_the_fold(tmp_path: Path, name: str) -> None:
    run = write(Workspace(tmp_path), name)
    state = event_log.read_state(run)
    fold_cache.save(run, state, run.events.stat().st_size)
    cached = fold_cache.cached(run)
    assert cached is not None
    assert cached[0] == state
    assert cached[1].read() == []


def test_a_run_that_has_gone_on_is_read_from_where_the_cache_ends(tmp_path: Path) -> None:
    run = write(Workspace(tmp_path), "running")
    fold_cache.save(run, event_log.read_state(run), run.events.stat().st_size)
    writer = EventWriter(run)
    writer.emit(ev.Resumed(400))
    writer.emit(ev.TrainStep(401, 1204, 1.0, 1.0, 1e-4, 0.4, 11_900, 7_300, 0.2))
    writer.close()
    assert fold_cache.read_folded(run)[0] == event_log.read_state(run)
    assert fold_cache.read_summary(run).step == 401


@pytest.mark.parametrize("damage", ["", "{", "[]\n[]\n", '{"version": 1}\n', "cut", "other log", "other version", "many points"])
def test_a_cache_that_does_not_fit_changes_nothing(tmp_path: Path, damage: str) -> None:
    run = write(Workspace(tmp_path), "finished")
    state = event_log.read_state(run)
    fold_cache.save(run, state, run.events.stat().st_size)
    path = fold_cache.path_of(run)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) * 3 // 4])
    elif damage == "other log":
        run.events.write_bytes(run.events.read_bytes()[:5000].rpartition(b"\n")[0] + b"\n")
    elif damage == "other version":
        head, rest = whole.split(b"\n", 1)
        path.write_bytes(json.dumps({**json.loads(head), "version": "old"}).encode() + b"\n" + rest)
    elif damage == "many points":
        path.write_bytes(whole.replace(b'{"curve": [', b'{"curve": [9999999999'))
    else:
        path.write_text(damage)
    expected = event_log.read_state(run)
    assert fold_cache.read_folded(run)[0] == expected
    assert fold_cache.read_summary(run) == fold_cache.summarize(expected)


def test_deleting_it_or_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    run = write(Workspace(tmp_path), "finished")
    first = fold_cache.read_summary(run)
    assert fold_cache.path_of(run).exists()
    fold_cache.path_of(run).unlink()
    assert fold_cache.read_summary(run) == first == fold_cache.read_summary(run)
