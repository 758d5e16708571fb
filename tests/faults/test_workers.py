"""The harness itself: what stands still for ever fails one test and not the ones after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runner import launch
from tests.faults.workers import Project, Workers, when
from tests.processes import started
from tests.waiting import PATIENCE_S, go_on, is_gone

_STOPS_ITSELF_LATE = """
import os, signal, sys, time
print("ready", flush=True)
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Its workers are ended as soon as they have begun: there is nothing to load for them."""
    workers = Workers(ahead=False)
    monkeypatch.setattr(launch, "spawn_worker", workers.spawn)
    yield Project(tmp_path, tmp_path / "no model", workers)
    workers.close()


def test_what_stops_itself_later_than_it_is_told_to_go_on_goes_on_all_the_same() -> None:
    process = started(_STOPS_ITSELF_LATE)
    go_on(process.pid)
    assert process.wait(timeout=PATIENCE_S) == 0


def test_what_ended_instead_of_standing_still_is_told_at_once() -> None:
    process = started('print("ready", flush=True)')
    with pytest.raises(AssertionError, match="ended instead of standing still"):
        go_on(process.pid)
    process.wait(timeout=PATIENCE_S)


def test_after_a_worker_that_never_ends_the_next_test_has_workers_again(light: Project) -> None:
    light.start(when("attempt_started") | {"do": "signal", "signal": signal.SIGSTOP})
    light.workers.see_it_stop()
    stopped = light.workers.pid
    with pytest.raises(AssertionError, match=f"worker {stopped} is in state T"):
        light.workers.exit_status(seconds=0.2)
    Workers.renew_all()  # as after each failed test
    assert is_gone(stopped)
    assert light.to_its_end(when("attempt_started") | {"do": "signal", "signal": signal.SIGKILL}) == -signal.SIGKILL


def test_a_zygote_that_does_not_answer_is_given_up_with_its_workers(light: Project) -> None:
    light.start(when("attempt_started") | {"do": "signal", "signal": signal.SIGSTOP})
    light.workers.see_it_stop()
    stopped, zygote = light.workers.pid, light.workers.zygote
    os.kill(zygote, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="no answer"):
        light.workers.ask(wait=stopped, within_s=0, seconds=0.2)
    assert is_gone(stopped) and is_gone(zygote)
    assert light.to_its_end(when("attempt_started") | {"do": "signal", "signal": signal.SIGKILL}) == -signal.SIGKILL
