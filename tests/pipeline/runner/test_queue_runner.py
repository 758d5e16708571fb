"""Whoever runs a queue starts each run once, whatever fails and whenever it dies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.runner import queue_devices
from pipeline.runner.launch import ProjectBusy, Started
from pipeline.runner.queue_devices import Choice, Devices
from pipeline.runner.queue_runner import QueueRunner
from pipeline.runner.worker import REQUEST_FILE
from pipeline.runs import events as ev
from pipeline.runs import store
from pipeline.runs.events import Envelope, Event, to_line
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.queue import New, Queue, Queued
from pipeline.runs.request import Request
from pipeline.system import locks
from pipeline.system.gpu import Device


class Killed(BaseException):
    """The process that runs the queue dies here."""


class Workers:
    """Starts no process: a run is on while this holds its locks.

    Attributes:
        die: where the next start dies: "before" anything, when the "folder" is made, or when the run is "up".
        begun: keys of queued runs, in the order in which their work began.
    """

    def __init__(self) -> None:
        self.die = ""
        self.fail: dict[str, Exception] = {}
        self.begun: list[str] = []
        self.seen: list[str] = []
        self._held: dict[Path, list[locks.FileLock]] = {}

    def start(self, workspace: Workspace, config: Config, request: Request, *, see: str = "") -> Started:
        if self.die == "before":
            raise Killed
        if config.project in self.fail:
            raise self.fail[config.project]
        run = store.find_run(workspace, request.run) if request.resume else store.create(workspace, config, {})
        (run.path / REQUEST_FILE).write_text(json.dumps(asdict(request)))
        if self.die == "folder":
            raise Killed
        self.spawn_worker(workspace, run, see)
        if self.die == "up":
            raise Killed
        return Started(run)

    def spawn_worker(self, workspace: Workspace, run: RunFolder, see: str = "") -> Any:
        found = [locks.try_lock(path) for path in (workspace.project_lock(run.project), run.lock)]
        assert all(found), "two work in one project"
        self._held[run.path] = [each for each in found if each]
        self.begun.append(json.loads((run.path / REQUEST_FILE).read_text())["queued"])
        self.seen.append(see)
        self._log(run, ev.AttemptStarted(os.getpid(), run.project, "tiny", "qlora_nf4", True, device="CPU"))
        return None

    def end(self, run: RunFolder, *events: Event) -> None:
        """With these as its last events; without any, as one that was killed."""
        for event in events:
            self._log(run, event)
        for lock in self._held.pop(run.path):
            lock.release()

    def let_go(self) -> None:
        for each in list(self._held):
            self.end(RunFolder(each))

    def _log(self, run: RunFolder, event: Event) -> None:
        before = run.events.read_text().count("\n") if run.events.exists() else 0
        attempts = self.begun.count(self.begun[-1])
        with run.events.open("a") as log:
            log.write(to_line(Envelope(before + 1, time.time(), attempts, event)) + "\n")
        later = (run.path / REQUEST_FILE).stat().st_mtime_ns + 1_000_000_000
        os.utime(run.events, ns=(later, later))


class Free(Devices):
    """`compute.gpu` names the device; one run at a time on each."""

    def choose(self, wanted: str, taken: Collection[str]) -> Choice:
        return Choice(waits_for=wanted) if wanted in taken else Choice(wanted, wanted)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.let_go()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(Workspace(tmp_path))


def add(queue: Queue, *projects: str, gpu: str = "cpu") -> tuple[Queued, ...]:
    return queue.add([New(Config.model_validate({"project": each, "compute": {"gpu": gpu}}).to_json(), "c") for each in projects])


def runner(queue: Queue, workers: Workers, said: list[str] | None = None) -> QueueRunner:
    return QueueRunner(queue, (said if said is not None else []).append, starter=workers, devices=Free(queue.workspace))


def run_of(queue: Queue, number: int) -> RunFolder:
    found = next(each.folder(queue.workspace) for each in queue.read() if each.number == number)
    assert found is not None
    return found


def states(queue: Queue) -> list[str]:
    return [each.outcome or each.state for each in queue.read()]


def test_one_run_at_a_time_on_a_device_and_a_failed_one_keeps_no_other_waiting(queue: Queue, workers: Workers) -> None:
    add(queue, "a", "b")
    add(queue, "c", gpu="1")
    said: list[str] = []
    running = runner(queue, workers, said)
    running.look()
    assert states(queue) == ["running", "waiting", "running"], "one on each device; who can't start holds up nobody"
    assert queue.read()[1].waits_for == "cpu"
    workers.end(run_of(queue, 1), ev.RunFailed("the disk is full", "make room", 4))
    running.look()
    assert states(queue) == ["failed", "running", "running"]
    assert "a: failed" in said[2] and "goes on" in said[2] and "the disk is full" in said[2]
    workers.end(run_of(queue, 2), ev.RunFinished(3))
    workers.end(run_of(queue, 3), ev.RunFinished(0))
    assert not running.look()
    assert states(queue) == ["failed", "gates failed", "finished"]
    assert workers.seen == ["", "1", ""], "a process sees its GPU only"


def test_a_project_that_is_busy_is_waited_for_and_the_next_one_starts(queue: Queue, workers: Workers) -> None:
    add(queue, "a")
    add(queue, "b", gpu="1")
    lock = locks.try_lock(queue.workspace.project_lock("a"))
    assert lock is not None
    with lock:
        runner(queue, workers).look()
        assert states(queue) == ["waiting", "running"]
        assert "project a" in queue.read()[0].waits_for
    workers.fail["a"] = ProjectBusy("project 'a' is busy", "")  # somebody was faster
    running = runner(queue, workers)
    running.look()
    assert states(queue) == ["waiting", "running"]
    del workers.fail["a"]
    running.look()
    assert states(queue) == ["running", "running"]


def test_what_is_queued_stays_as_it_was_whatever_becomes_of_the_file(queue: Queue, workers: Workers) -> None:
    config = Config.model_validate({"project": "a", "train": {"lr": 3e-4}, "compute": {"gpu": "cpu"}})
    queue.add([New(config.to_json(), "mine.json")])
    runner(queue, workers).look()
    assert run_of(queue, 1).load_config() == config


def test_a_start_that_is_refused_ends_that_run_only(queue: Queue, workers: Workers) -> None:
    add(queue, "a", "b", "c")
    workers.fail = {"a": BadInput("no such data", "look"), "b": RuntimeError("a bug")}
    runner(queue, workers).look()
    assert states(queue) == ["failed", "failed", "running"]
    assert [each.exit_code for each in queue.read()] == [2, 1, None]
    assert "no such data" in queue.read()[0].message


@pytest.mark.parametrize("die", ["before", "folder", "up"])
def test_a_death_at_any_moment_of_a_start_loses_no_run_and_starts_none_twice(queue: Queue, workers: Workers, die: str) -> None:
    first, second = add(queue, "a", "b")
    workers.die = die
    with pytest.raises(Killed):
        runner(queue, workers).run(every_s=0)
    workers.die = ""
    running = runner(queue, workers)
    running.look()
    assert states(queue) == ["running", "waiting"]
    assert workers.begun == [first.key]
    assert len(store.runs_of(queue.workspace)) == 1, "no second folder"
    workers.end(run_of(queue, 1), ev.RunFinished(0))
    running.look()
    assert workers.begun == [first.key, second.key]


def test_runs_that_go_on_without_it_are_found_when_it_is_started_again(queue: Queue, workers: Workers) -> None:
    add(queue, "a", "b")
    runner(queue, workers).look()
    workers.end(run_of(queue, 1), ev.RunFinished(0))  # while nobody looked
    runner(queue, workers).look()
    assert states(queue) == ["finished", "running"]


def test_a_run_whose_process_died_is_resumed_once(queue: Queue, workers: Workers) -> None:
    (queued,) = add(queue, "a")
    running = runner(queue, workers)
    running.look()
    workers.end(run_of(queue, 1))
    running.look()
    assert states(queue) == ["running"] and workers.begun == [queued.key] * 2
    request = json.loads((run_of(queue, 1).path / REQUEST_FILE).read_text())
    assert request["resume"] and len(store.runs_of(queue.workspace)) == 1
    workers.end(run_of(queue, 1))
    assert not running.look()
    assert states(queue) == ["crashed"]
    assert "--resume" in queue.read()[0].message


def test_a_resume_that_was_decided_and_not_begun_is_not_forgotten(queue: Queue, workers: Workers) -> None:
    add(queue, "a")
    running = runner(queue, workers)
    running.look()
    workers.end(run_of(queue, 1))
    workers.die = "before"
    with pytest.raises(Killed):
        running.look()
    workers.die = ""
    runner(queue, workers).look()
    assert states(queue) == ["running"] and len(workers.begun) == 2


def test_a_stop_starts_nothing_more_and_ends_nothing(queue: Queue, workers: Workers) -> None:
    add(queue, "a", "b")
    said: list[str] = []
    running = runner(queue, workers, said)
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            queue.request_stop()
        return False

    running.run(stop=stop, every_s=0)
    assert states(queue) == ["running", "waiting"]
    assert "the queue has stopped: 1 on" in said[-1]
    assert queue.runner() is None


class EndsAtOnce(Workers):
    def spawn_worker(self, workspace: Workspace, run: RunFolder, see: str = "") -> Any:
        super().spawn_worker(workspace, run, see)
        self.end(run, ev.RunFinished(0))


def test_it_ends_when_nothing_is_left_and_takes_what_was_added_at_its_last_look(queue: Queue) -> None:
    class AddedLate(QueueRunner):
        def look(self) -> bool:
            left = super().look()
            if not left and len(queue.read()) == 1:
                add(queue, "b")
            return left

    add(queue, "a")
    said: list[str] = []
    AddedLate(queue, said.append, starter=EndsAtOnce(), devices=Free(queue.workspace)).run(every_s=0)
    assert states(queue) == ["finished", "finished"]
    assert said[-1] == "the queue is empty"


def test_a_gpu_is_free_when_neither_the_queue_nor_anybody_else_trains_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [Device("cuda", "H100", uuid=f"GPU-{number}", index=number) for number in range(2)]
    monkeypatch.setattr(queue_devices.gpu, "auto_devices", lambda: cards)
    held: set[str] = set()
    monkeypatch.setattr(queue_devices, "card_holder", lambda device: 4711 if device.uuid in held else None)
    devices = Devices(Workspace(tmp_path))
    assert devices.choose("auto", ()).device == "GPU-0"
    assert devices.choose("auto", ("GPU-0",)).device == "GPU-1"
    held.add("GPU-1")
    assert devices.choose("auto", ("GPU-0",)).waits_for
    monkeypatch.setattr(queue_devices.gpu, "choose_device", lambda wanted: cards[int(wanted)])
    assert devices.choose("1", ()).waits_for == "GPU 1: another run is on it"
    assert devices.choose("0", ()).device == "GPU-0"


def test_a_device_that_is_not_there_is_for_the_run_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(wanted: str) -> Device:
        raise EnvironmentFault(f"GPU {wanted} is not there", "")

    monkeypatch.setattr(queue_devices.gpu, "choose_device", refuse)
    assert Devices(Workspace(tmp_path)).choose("7", ()) == Choice()
