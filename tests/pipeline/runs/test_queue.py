"""The queue's file: an order, numbers that never come twice, nothing lost when many change it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import New, Queue, newest_sweep
from tests.processes import started
from tests.waiting import PATIENCE_S

_ADDS = """
import sys
from pathlib import Path
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import New, Queue
queue = Queue(Workspace(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    queue.add([New({"project": f"{sys.argv[2]}-{number}"}, "c.json")])
"""


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(Workspace(tmp_path))


def new(project: str = "mine") -> New:
    return New(Config(project=project).to_json(), "mine.json")


def numbers(queue: Queue) -> list[int]:
    return [each.number for each in queue.read()]


def test_what_was_queued_is_read_back_whole_and_a_number_never_comes_again(queue: Queue) -> None:
    assert queue.read() == ()
    added = queue.add([new("a"), New(Config(project="b").to_json(), "b.json", (("train.lr", "1e-4"),))])
    assert queue.read() == added
    assert added[1].load_config() == Config(project="b")
    queue.remove([2])
    (third,) = queue.add([new("c")])
    assert third.number == 3
    assert newest_sweep(queue.read()) == [third]


def test_the_order_is_the_persons(queue: Queue) -> None:
    queue.add([new(), new(), new()])
    queue.move(3, 1)
    assert numbers(queue) == [3, 1, 2]
    queue.move(3, 99)
    assert numbers(queue) == [1, 2, 3]
    queue.claim(1)
    with pytest.raises(BadInput, match="does not wait"):
        queue.move(1, 1)


def test_a_run_that_is_on_is_not_removed_and_then_none_is(queue: Queue) -> None:
    queue.add([new(), new()])
    queue.claim(2)
    queue.update(2, state="running", run="mine/2026")
    with pytest.raises(BadInput) as raised:
        queue.remove([1, 2])
    assert "humigence runs stop mine/2026" in raised.value.hint
    assert numbers(queue) == [1, 2]
    queue.update(2, state="ended")
    queue.remove_ended()
    assert numbers(queue) == [1]


def test_only_a_run_that_waits_can_be_claimed(queue: Queue) -> None:
    queue.add([new()])
    assert queue.claim(1) is not None
    assert queue.claim(1) is None
    assert queue.claim(7) is None


def test_a_damaged_file_is_told_and_not_replaced(queue: Queue) -> None:
    queue.add([new()])
    queue.file.write_text("{")
    for attempt in (queue.read, lambda: queue.add([new()])):
        with pytest.raises(BadInput, match="this is no queue"):
            attempt()
    assert queue.file.read_text() == "{"


def test_one_process_runs_it(queue: Queue) -> None:
    with pytest.raises(BadInput, match="not running"):
        queue.request_stop()
    with queue.take():
        queue.request_stop()
        with pytest.raises(EnvironmentFault, match="running already"):
            queue.take()
    queue.take().release()
    assert not queue.stop_requested(), "a stop is for the process that was asked"


def test_nothing_is_lost_when_several_add_at_once(queue: Queue) -> None:
    adding = [started(_ADDS, queue.workspace.root, name) for name in "ab"]
    for each in adding:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in adding:
        each.communicate(timeout=PATIENCE_S)
    assert numbers(queue) == list(range(1, 21))
    assert sorted(each.project for each in queue.read()) == sorted(f"{name}-{number}" for name in "ab" for number in range(10))
