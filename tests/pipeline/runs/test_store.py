"""Run folders: the log survives its writer's death, the right run is found, the state shown is the truth."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput, MissingArtifact
from pipeline.config.schema import Config
from pipeline.runs import control, event_log, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventReader, EventWriter
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import locks
from tests.processes import python, started
from tests.waiting import in_time, killed

STARTED = ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return store.create(Workspace(tmp_path), Config(project="demo"), {"pid": 1})


def written(run: RunFolder, *events: ev.Event) -> None:
    writer = EventWriter(run)
    for event in events:
        writer.emit(event)
    writer.close()


def append(run: RunFolder, data: bytes) -> None:
    with run.events.open("ab") as file:
        file.write(data)


# ------------------------------------------------------------------------------------------------------- the log


def test_numbers_go_on_and_attempts_count_up_through_all_writers(run: RunFolder) -> None:
    for _ in range(3):
        written(run, STARTED, ev.Note("a"))
    envelopes = EventReader(run).read()
    assert [envelope.seq for envelope in envelopes] == [1, 2, 3, 4, 5, 6]
    assert [envelope.attempt for envelope in envelopes] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_last_line_cut_short_is_waited_for_by_readers_and_dropped_by_the_next_writer(run: RunFolder, keep: int) -> None:
    written(run, STARTED, ev.Note("whole"))
    whole = run.events.read_bytes()
    append(run, whole.splitlines()[-1][:keep])
    assert [envelope.seq for envelope in EventReader(run).read()] == [1, 2]
    written(run, ev.Note("after"))
    assert run.events.read_bytes().startswith(whole)
    assert [envelope.seq for envelope in EventReader(run).read()] == [1, 2, 3]


def test_a_first_line_cut_short_leaves_an_empty_log(run: RunFolder) -> None:
    append(run, b'{"v": 1, "seq"')
    assert EventReader(run).read() == []
    written(run, STARTED)
    assert [envelope.seq for envelope in EventReader(run).read()] == [1]


def test_a_torn_line_longer_than_one_look_is_dropped_too(run: RunFolder) -> None:
    written(run, STARTED)
    append(run, b"x" * 200_000)
    written(run, ev.Note("after"))
    assert [envelope.seq for envelope in EventReader(run).read()] == [1, 2]


def test_a_line_that_is_still_being_written_is_read_once_it_is_whole(run: RunFolder) -> None:
    written(run, STARTED, ev.Note("second"))
    first, second = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(first + second[:20])
    reader = EventReader(run)
    assert [envelope.seq for envelope in reader.read()] == [1]
    assert reader.read() == []
    append(run, second[20:])
    assert [envelope.seq for envelope in reader.read()] == [2]


def test_a_damaged_line_hides_itself_and_keeps_nobody_from_going_on(run: RunFolder) -> None:
    written(run, STARTED, ev.Note("kept"))
    append(run, b"\x00\x00 not an event\n")
    assert len(EventReader(run).read()) == 2
    written(run, ev.Note("after"))
    assert [envelope.seq for envelope in EventReader(run).read()] == [1, 2, 3]


def test_events_of_a_newer_version_keep_their_numbers(run: RunFolder) -> None:
    written(run, STARTED)
    append(run, json.dumps({"v": 2, "seq": 2, "time": 1.0, "attempt": 4, "kind": "moon_phase"}).encode() + b"\n")
    written(run, ev.Note("after"))
    assert [(envelope.seq, envelope.attempt) for envelope in EventReader(run).read()] == [(1, 1), (3, 5)]


def test_reading_in_small_pieces_gives_the_same_events(run: RunFolder) -> None:
    written(run, STARTED, *(ev.Note("x" * 50 * number) for number in range(20)))
    reader, pieces = EventReader(run), []
    while piece := reader.read(most_bytes=100):
        pieces += piece
    assert pieces == EventReader(run).read()


def test_text_that_is_not_utf8_does_not_end_the_run(run: RunFolder) -> None:
    name = os.fsdecode(b"caf\xe9")
    written(run, ev.Note(name))
    assert EventReader(run).read()[0].event == ev.Note(name)


def test_a_dead_process_left_everything_it_emitted_and_its_run_shows_as_crashed_at_once(run: RunFolder) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from pipeline.runs import events as ev; from pipeline.system import locks
from pipeline.runs.event_log import EventWriter; from pipeline.runs.store import RunFolder
run = RunFolder(Path(sys.argv[1]))
lock = locks.try_lock(run.lock)
writer = EventWriter(run)
writer.emit(ev.AttemptStarted(os.getpid(), "demo", "tiny", "qlora_nf4", True))
writer.emit(ev.StepStarted("train"))
print("ready", flush=True)
for step in range(1, 2001):
    writer.emit(ev.TrainStep(step, 5000, 0.1, 2.0, 1e-4, 1.0, 10, 5, 0.1))
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = started(code, run.path)
    try:
        seen = [envelope for batch in in_time(event_log.follow(run, every_s=0.01)) for envelope in batch]
    finally:
        status = killed(process)
    assert status == -signal.SIGKILL
    assert [envelope.seq for envelope in seen] == list(range(1, 2003))
    state = event_log.read_state(run)
    assert state.status == "running"
    assert control.status_of(run, state) == "crashed"
    assert store.summary(run)["state"] == "crashed"


def test_what_a_process_writes_between_two_looks_and_its_death_is_still_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(run, STARTED)
    looks = 0

    def alive_until_the_second_look(_: RunFolder) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            written(run, ev.RunFinished())  # the last thing it does
        return looks < 2

    monkeypatch.setattr(event_log, "is_alive", alive_until_the_second_look)
    seen = [envelope.event for batch in in_time(event_log.follow(run, every_s=0.001)) for envelope in batch]
    assert seen == [STARTED, ev.RunFinished()]


def test_a_second_writer_is_kept_out_by_the_runs_lock(run: RunFolder) -> None:
    code = """
import sys
from pathlib import Path
from pipeline.system import locks
from pipeline.runs.folders import RunFolder
run = RunFolder(Path(sys.argv[1]))
sys.exit(0 if locks.try_lock(run.lock) else 9)
"""
    with locks.try_lock(run.lock):  # type: ignore[union-attr]
        written(run, STARTED)
        assert python(code, run.path).returncode == 9
        assert control.status_of(run, event_log.read_state(run)) == "running"
    assert python(code, run.path).returncode == 0
    assert control.status_of(run, event_log.read_state(run)) == "crashed"


def test_a_run_that_ended_is_what_it_says_it_is(run: RunFolder) -> None:
    written(run, STARTED, ev.RunFinished(3))
    assert control.status_of(run, event_log.read_state(run)) == "finished"


# --------------------------------------------------------------------------------------------- folders, finding


@pytest.fixture
def many(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for name in (
        "demo/2026-01-01_10-00-00",
        "demo/2026-01-02_10-00-00",
        "other/2026-01-02_10-00-00",
        "other/2026-01-03_09-00-00",
    ):
        folder = workspace.runs / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(Config(project=name.split("/")[0]).to_json()))
    (workspace.runs / "demo" / ".half.tmp").mkdir()
    (workspace.runs / "demo" / "notes").mkdir()  # somebody's own folder is no run
    (workspace.runs / "training.txt").touch()
    return workspace


def test_runs_are_listed_newest_first(many: Workspace) -> None:
    names = [f"{run.project}/{run.run_id}" for run in store.runs_of(many)]
    assert names == [
        "other/2026-01-03_09-00-00",
        "other/2026-01-02_10-00-00",
        "demo/2026-01-02_10-00-00",
        "demo/2026-01-01_10-00-00",
    ]
    assert [run.run_id for run in store.runs_of(many, "demo")] == ["2026-01-02_10-00-00", "2026-01-01_10-00-00"]
    assert store.runs_of(Workspace(many.root / "nowhere")) == []


@pytest.mark.parametrize(
    ("selector", "project", "found"),
    [
        (None, None, "other/2026-01-03_09-00-00"), (None, "demo", "demo/2026-01-02_10-00-00"),
        ("2026-01-01", None, "demo/2026-01-01_10-00-00"), ("demo/2026-01-02", None, "demo/2026-01-02_10-00-00"),
        ("2026-01-02_10-00-00", "other", "other/2026-01-02_10-00-00"),
    ],
)  # fmt: skip
def test_a_run_is_found_as_a_person_names_it(many: Workspace, selector: str | None, project: str | None, found: str) -> None:
    run = store.find_run(many, selector, project)
    assert f"{run.project}/{run.run_id}" == found


def test_a_run_is_found_by_its_path(many: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many.root)
    assert store.find_run(many, "runs/demo/2026-01-01_10-00-00").path == many.runs / "demo/2026-01-01_10-00-00"


@pytest.mark.parametrize("selector", ["2026-01-0", "2026-01-02_10-00-00", "demo"])
def test_a_name_that_fits_several_runs_is_refused_with_their_names(many: Workspace, selector: str) -> None:
    with pytest.raises(BadInput, match="demo/2026-01-02_10-00-00"):
        store.find_run(many, selector)


def test_a_project_by_its_whole_name_is_not_one_whose_name_begins_so(many: Workspace) -> None:
    for name in ("support", "support-lr1e-4", "support-lr2e-4"):
        store.create(many, Config(project=name), {})
    assert store.find_run(many, "support").project == "support"


def test_no_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact) as caught:
        store.find_run(Workspace(tmp_path))
    assert "humigence pipeline" in caught.value.hint


def test_runs_of_the_same_second_get_folders_of_their_own_which_only_their_owner_reads(tmp_path: Path) -> None:
    made = [store.create(Workspace(tmp_path), Config(project="demo"), {}) for _ in range(5)]
    assert len({run.path for run in made}) == 5
    assert all(run.path.stat().st_mode & 0o777 == 0o700 for run in made)
    assert all(run.load_config() == Config(project="demo") for run in made)
    assert [run.path for run in store.runs_of(Workspace(tmp_path))] == [run.path for run in reversed(made)]


def test_a_summary_has_what_the_list_promises(run: RunFolder) -> None:
    step = ev.TrainStep(5, 10, 0.5, float("nan"), 1e-4, 1.0, 10, 5, 0.1)
    written(run, STARTED, step, ev.Evaluated(5, 1.5, 10, 0.1, True), ev.RunFailed("no", "", 4))
    row = store.summary(run)
    promised = {"project", "run_id", "state", "path", "started", "finished", "model", "step", "steps", "train_loss", "val_loss"}
    assert promised <= set(row)
    assert (row["project"], row["state"], row["step"], row["steps"], row["val_loss"]) == ("demo", "failed", 5, 10, 1.5)
    assert row["started"] <= row["finished"]


# ----------------------------------------------------------------------------------------------------- stopping


def test_a_stop_request_is_seen_and_an_abort_replaces_it(run: RunFolder) -> None:
    assert control.stop_requested(run) is None
    control.request_stop(run, "save")
    assert control.stop_requested(run) == "save"
    control.request_stop(run, "abort")
    assert control.stop_requested(run) == "abort"
    control.clear_stop_request(run)
    control.clear_stop_request(run)
    assert control.stop_requested(run) is None
