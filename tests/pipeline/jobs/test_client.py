"""The protocol of jobs: what is asked is answered in order, a crash is told in words, and no child outlives its parent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs.client import Ended, Gone, Job, JobEvent, JobUpdate
from tests.processes import python, started
from tests.waiting import is_gone, killed, see_it_stop, wait_until

DOUBLE = "tests.pipeline.jobs.job_double"


class Child:
    """A job and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[JobEvent] = []
        self.job = Job(DOUBLE, self.told.append, folder)
        self.job.start()

    def until(self, condition: Callable[[], object]) -> None:
        wait_until(condition, told=lambda: self.told)

    def end_of(self, request: int) -> Ended:
        self.until(lambda: any(isinstance(event, Ended) and event.request == request for event in self.told))
        return next(event for event in self.told if isinstance(event, Ended) and event.request == request)

    def of(self, request: int) -> list[JobUpdate]:
        return [event for event in self.told if isinstance(event, JobUpdate) and event.request == request]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.job.close()


def test_what_is_told_arrives_in_order_and_the_end_comes_last(child: Child) -> None:
    first, second = child.job.send("count", to=500), child.job.send("count", to=3)
    assert child.end_of(second).data == {"to": 3}
    assert [event.data["number"] for event in child.of(first)] == list(range(500))
    kinds = [(type(event), event.request) for event in child.told if not isinstance(event, Gone)]
    assert kinds == [(JobUpdate, first)] * 500 + [(Ended, first)] + [(JobUpdate, second)] * 3 + [(Ended, second)]


def test_what_a_library_prints_never_enters_the_protocol(child: Child) -> None:
    request = child.job.send("print")
    assert child.end_of(request).outcome == "done"
    assert [event.what for event in child.of(request)] == ["printed"]


def test_a_refusal_is_told_with_its_hint_and_the_child_lives_on(child: Child) -> None:
    refused = child.end_of(child.job.send("refuse"))
    assert (refused.outcome, refused.message, refused.hint) == ("failed", "that is no number", "give a number")
    assert child.end_of(child.job.send("count", to=1)).outcome == "done"


def test_a_crash_is_an_event_with_the_last_lines_that_were_printed(child: Child) -> None:
    child.job.send("crash", words="the tensor is gone")
    child.until(lambda: isinstance(child.told[-1:] and child.told[-1], Gone))
    last: Any = child.told[-1]
    assert last.how == "ended with exit code 1"
    assert last.last_lines[-1] == "RuntimeError: the tensor is gone"
    assert "loading shards" in last.last_lines[0] or len(last.last_lines) == 8


def test_a_killed_child_is_told_and_what_is_sent_to_it_then_raises_nothing(child: Child) -> None:
    child.end_of(child.job.send("count", to=1))
    os.kill(child.job.pid, signal.SIGKILL)
    child.until(lambda: isinstance(child.told[-1], Gone))
    last: Any = child.told[-1]
    assert last.how.startswith("was killed: memory ran out")
    for _ in range(3):
        child.job.send("count", to=1)


def test_a_request_can_be_given_up_while_it_is_answered_and_while_it_waits(child: Child) -> None:
    answering, queued, after = child.job.send("wait"), child.job.send("count", to=5), child.job.send("count", to=1)
    child.until(lambda: child.of(answering))
    child.job.cancel(queued)
    child.job.cancel(answering)
    assert child.end_of(after).outcome == "done"
    assert child.end_of(answering).outcome == "cancelled"
    assert child.end_of(queued).outcome == "cancelled"
    assert child.of(queued) == []


def test_a_closed_job_ends_its_child_and_tells_nothing_more(child: Child) -> None:
    request = child.job.send("wait")
    child.until(lambda: child.of(request))
    before = list(child.told)
    child.job.close()
    child.until(lambda: is_gone(child.job.pid))
    assert child.told == before


@pytest.mark.parametrize("stuck", [False, True], ids=["answering", "stopped"])
def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path, stuck: bool) -> None:
    code = f"""
import sys, time
from pathlib import Path
from pipeline.jobs.client import Job
told = []
job = Job({DOUBLE!r}, told.append, Path(sys.argv[1]))
job.start()
job.send("wait")
while not told:
    time.sleep(0.01)
Path(sys.argv[1], "pid").write_text(str(job.pid))
print("ready", flush=True)
time.sleep(600)
"""
    parent = started(code, tmp_path)
    pid = int((tmp_path / "pid").read_text())
    assert not is_gone(pid)
    if stuck:
        os.kill(pid, signal.SIGSTOP)  # it can't read that its standard input has ended
        see_it_stop(pid)
    killed(parent)
    wait_until(lambda: is_gone(pid))


def test_the_parent_side_loads_nothing_heavy() -> None:
    done = python("import sys, pipeline.jobs.client\nprint(*[name for name in sys.modules if '.' not in name])")
    assert not {"torch", "transformers", "numpy", "pydantic"} & set(done.stdout.split())


def test_a_crash_in_a_thread_of_the_kind_is_told_too(child: Child) -> None:
    child.job.send("crash in thread")
    child.until(lambda: child.told and isinstance(child.told[-1], Gone))
    last: Any = child.told[-1]
    assert last.last_lines[-1] == "ZeroDivisionError: division by zero"
