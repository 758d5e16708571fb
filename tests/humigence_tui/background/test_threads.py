"""The threads: what they post is what the log says, and none outlives the app."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.background import follower as follower_module
from humigence_tui.background import run_list
from humigence_tui.background.follower import Follower
from humigence_tui.background.output import OutputTail
from humigence_tui.background.run_list import RunList
from pipeline.common.files import disk_bytes
from pipeline.runs import event_log, fold_cache
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from pipeline.runs.fold_cache import Summary, summarize
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState
from pipeline.system import gpu
from screens.frame import messages
from screens.frame.machine_snapshot import MachineHistory
from tests.pilot import Records
from tests.waiting import wait_until


class Inbox:
    def __init__(self) -> None:
        self.messages: list[tuple[float, Any]] = []

    def post(self, message: Any) -> bool:
        self.messages.append((time.monotonic(), message))
        return True

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.messages if isinstance(message, kind)]

    def wait(self, condition: Callable[[], object]) -> None:
        wait_until(condition)

    @property
    def newest(self) -> Any:
        found = self.of(messages.SnapshotNews)
        return found[-1].snapshot if found else None


def followed(inbox: Inbox) -> Follower:
    follower = Follower(inbox.post)
    follower.start()
    return follower


def test_the_follower_folds_what_the_log_says_and_leaves_no_thread(records: Records) -> None:
    before = set(threading.enumerate())
    run = records.write("resumed")
    inbox = Inbox()
    follower = followed(inbox)
    follower.follow(run)
    inbox.wait(lambda: inbox.newest and inbox.newest.whole)
    follower.close()
    state = event_log.read_state(run)
    assert inbox.newest.state == summarize(state)
    assert list(inbox.newest.columns.step) == list(state.train["step"])
    assert list(inbox.newest.columns.held_loss) == list(state.held_out["loss"])
    assert list(inbox.newest.columns.step) == list(range(1, 761))  # each step once, though 400 to 412 were done twice
    assert set(threading.enumerate()) <= before  # an earlier test's may have ended meanwhile


def test_a_snapshot_does_not_change_when_the_run_goes_on(records: Records) -> None:
    run = records.write("running")
    inbox = Inbox()
    follower = followed(inbox)
    follower.follow(run)
    inbox.wait(lambda: inbox.newest and inbox.newest.whole)
    old = inbox.newest
    writer = EventWriter(run)
    writer.emit(ev.Resumed(400))
    writer.emit(ev.TrainStep(401, 1204, 1.0, 9.0, 1e-4, 0.4, 11_900, 7_300, 0.2))
    writer.close()
    inbox.wait(lambda: inbox.newest.state.step == 401)
    follower.close()
    assert len(old.columns.step) == 412
    assert old.columns.loss[400] != 9.0
    assert not old.columns.loss.flags.writeable


def test_a_flood_of_events_is_posted_at_most_four_times_a_second_and_none_is_lost(records: Records) -> None:
    run = records.write("running")
    inbox = Inbox()
    follower = followed(inbox)
    follower.follow(run)
    inbox.wait(lambda: inbox.newest and inbox.newest.whole)
    first = len(inbox.messages)
    writer = EventWriter(run)
    began = time.monotonic()
    step = 412
    while time.monotonic() - began < 2:
        step += 1
        writer.emit(ev.TrainStep(step, 120_000, 1.0, 1.0, 1e-4, 0.4, 11_900, 7_300, 0.2))
        time.sleep(0.002)
    writer.close()
    inbox.wait(lambda: inbox.newest.state.step == step)
    seconds = time.monotonic() - began
    follower.close()
    assert len(inbox.messages) - first <= 4 * seconds + 2
    assert len(inbox.newest.columns.step) == step


def test_a_run_that_cannot_be_started_is_told(records: Records) -> None:
    from pipeline.common.errors import EnvironmentFault

    def refused() -> Any:
        raise EnvironmentFault("busy", "wait")

    inbox = Inbox()
    follower = followed(inbox)
    follower.launch(refused)
    inbox.wait(lambda: inbox.of(messages.RunRefused))
    follower.close()
    assert inbox.of(messages.RunRefused)[0].error.hint == "wait"


def test_the_list_has_live_runs_on_top_and_notices_new_ended_and_deleted_ones(records: Records) -> None:
    import shutil

    done, live = records.write("finished"), records.write("running", run_id="2020-01-01_00-00-00")
    inbox = Inbox()
    thread = RunList(records.workspace, inbox.post)
    thread.start()

    def states() -> list[tuple[str, str]]:
        found = inbox.of(messages.RunsNews)
        return [(row.run.run_id, row.status) for row in found[-1].rows] if found else []

    inbox.wait(lambda: states() == [(live.run_id, "running"), (done.run_id, "finished")])
    records.let_go()
    inbox.wait(lambda: (live.run_id, "crashed") in states())
    newer = records.write("stopped", run_id="2026-01-01_00-00-00")
    inbox.wait(lambda: (newer.run_id, "stopped") in states())
    shutil.rmtree(done.path)
    inbox.wait(lambda: len(states()) == 2)
    thread.close()
    assert not thread.is_alive()


def test_the_list_is_there_before_anybody_has_looked_how_large_the_runs_are(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = records.write("finished")
    inbox, shown_before = Inbox(), list[bool]()

    def measured(path: Path) -> int:
        shown_before.append(bool(inbox.of(messages.RunsNews)))
        return disk_bytes(path)

    monkeypatch.setattr(run_list, "disk_bytes", measured)
    thread = RunList(records.workspace, inbox.post)
    thread.start()
    sizes = lambda: [news.rows[0].disk_bytes for news in inbox.of(messages.RunsNews)]  # noqa: E731
    inbox.wait(lambda: sizes() == [None, disk_bytes(run.path)])
    thread.close()
    assert shown_before == [True]


def told(inbox: Inbox) -> list[list[tuple[str, str, bool]]]:
    return [[(row.run.run_id, row.status, row.is_read) for row in news.rows] for news in inbox.of(messages.RunsNews)]


def test_a_long_list_is_there_by_its_names_before_any_log_is_read(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    done, live = records.write("finished"), records.write("running", run_id="2020-01-01_00-00-00")
    monkeypatch.setattr(run_list, "_MANY_RUNS", 2)
    inbox, shown_before, read = Inbox(), list[int](), fold_cache.read_summary

    def read_summary(run: RunFolder) -> Summary:
        shown_before.append(len(told(inbox)))
        return read(run)

    monkeypatch.setattr(fold_cache, "read_summary", read_summary)
    thread = RunList(records.workspace, inbox.post)
    thread._look()
    assert shown_before == [1]
    assert told(inbox)[0] == [(live.run_id, "running", False), (done.run_id, "finished", False)]
    assert told(inbox)[-1] == [(live.run_id, "running", True), (done.run_id, "finished", True)]


def test_a_log_of_gigabytes_keeps_the_others_waiting_neither_in_the_list_nor_is_it_read_twice(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = records.write("stopped", run_id="2020-01-01_00-00-00"), records.write("finished")
    monkeypatch.setattr(run_list, "_LONG_LOG", short.events.stat().st_size + 1)
    # A cache from before it became long holds little of it.
    begun = next(number for number, byte in enumerate(long.events.read_bytes()) if byte == ord("\n")) + 1
    fold_cache.save(long, RunState(), begun)
    assert fold_cache.unread_bytes(long) > short.events.stat().st_size
    inbox, elsewhere = Inbox(), {long}
    thread = RunList(records.workspace, inbox.post, elsewhere.__contains__)
    first = [(long.run_id, "finished", False), (short.run_id, "stopped", True)]
    for _ in range(2):
        thread._look()
        assert told(inbox)[-1] == first
    elsewhere.clear()
    thread._look()
    assert told(inbox)[-1] == [(long.run_id, "finished", True), (short.run_id, "stopped", True)]


def test_the_follower_tells_whose_log_it_is_reading(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    run, inbox, seen, saved = records.write("resumed"), Inbox(), list[bool](), list[bool]()
    monkeypatch.setattr(fold_cache, "save", lambda run, *_: saved.append(follower.is_reading(run)))
    monkeypatch.setattr(follower_module, "_PIECE_BYTES", 4096)
    follower = Follower(inbox.post)
    read = follower_module.Following.read_log
    monkeypatch.setattr(
        follower_module.Following, "read_log", lambda following: (seen.append(follower.is_reading(run)), read(following))[1]
    )
    follower.start()
    follower.follow(run)
    inbox.wait(lambda: inbox.newest and inbox.newest.whole)
    assert seen[0] and not follower.is_reading(run)
    assert saved == [True]  # nobody reads the log while its cache is being written
    follower.close()


def test_a_log_that_floods_is_followed_at_its_end(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_text("first\n" + "x" * 300_000 + "\nlast\nhalf")
    tail = OutputTail(log)
    assert tail.read_new()
    assert [line.text for line in tail.lines][-1] == "last"
    log.open("a").write(" a line\n")
    assert tail.read_new()
    assert [line.text for line in tail.lines][-1] == "half a line"
    assert not tail.read_new()


def reading(**values: Any) -> gpu.GpuReading:
    return gpu.GpuReading(0, uuid="GPU-1", name="NVIDIA GeForce RTX 4080", **values)


def test_a_gpu_that_falls_off_the_bus_is_kept_and_marked() -> None:
    history = MachineHistory()
    history.add(gpu.Survey((reading(utilization_pct=90, memory_used_bytes=1, memory_total_bytes=2),)), None, 100.0)
    lost = history.add(gpu.Survey((gpu.GpuReading(0),), problem=""), None, 101.0)
    assert lost.gpus[0].lost_at == 101.0
    assert lost.gpus[0].utilization == (90,)
    back = history.add(gpu.Survey((reading(utilization_pct=10),)), None, 102.0)
    assert back.gpus[0].lost_at is None
    assert back.gpus[0].utilization == (90, 10)


def test_a_machine_without_a_gpu_says_why() -> None:
    machine = MachineHistory().add(gpu.Survey(problem="no NVIDIA driver"), None, 1.0)
    assert machine.gpus == ()
    assert machine.problem == "no NVIDIA driver"
