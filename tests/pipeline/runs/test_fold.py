"""Folding lines at once: the state is that of reading them one by one, whatever is in the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs import event_log, fold_cache
from pipeline.runs import events as ev
from pipeline.runs import fold as log_fold
from pipeline.runs.event_log import EventReader
from pipeline.runs.events import Envelope, readable, to_line
from pipeline.runs.fold import fold_lines
from pipeline.runs.folders import Workspace
from pipeline.runs.state import RunState
from tests.folding import fold
from tests.pipeline.runs.event_strategies import logs
from tests.pipeline.runs.logs import STARTED, log, train_step
from tests.recordings.make import SHORT, write

DAMAGE = (
    b'{"v":1,"seq":3,"time":1.0,"attempt":1,"kind":"train_step","step":',
    b"\xff\xfe",
    b"[]",
    b'{"kind":"of tomorrow"}',
    b"1,2",
)


def lines_of(envelopes: list[Envelope]) -> list[bytes]:
    return [to_line(envelope).encode("utf-8", "backslashreplace") for envelope in envelopes]


def one_by_one(lines: list[bytes]) -> RunState:
    return fold(envelope for envelope in map(readable, lines) if envelope)


def everything(state: RunState) -> str:
    """All of a state as text: NaN equals itself."""
    columns: list[memoryview[float]] = []
    return json.dumps([fold_cache._encoded(state, columns), [list(column) for column in columns]])


@given(logs(finite=False), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(DAMAGE)), max_size=3), st.integers(1, 9))
def test_it_is_the_fold_of_the_same_lines_one_by_one(
    envelopes: list[Envelope], damage: list[tuple[int, bytes]], size: int
) -> None:
    lines = lines_of(envelopes)
    for at, line in damage:
        lines.insert(at, line)
    state = RunState()
    for begin in range(0, len(lines), size):
        fold_lines(lines[begin : begin + size], state)
    assert everything(state) == everything(one_by_one(lines))


@pytest.mark.parametrize("name", SHORT)
def test_recorded_runs_fold_the_same(tmp_path: Path, name: str) -> None:
    lines = write(Workspace(tmp_path), name).events.read_bytes().splitlines()
    state = RunState()
    fold_lines(lines, state)
    assert everything(state) == everything(one_by_one(lines))


def test_steps_of_a_log_that_begins_again_are_shown_once() -> None:
    """The writer's numbers go on; a log glued together from two has some twice, and the first ones count."""
    steps = lines_of(log(STARTED, *(train_step(step) for step in range(1, 40))))
    again = lines_of(log(STARTED, *(train_step(step, loss=9.0) for step in range(1, 45))))
    state = RunState()
    fold_lines(steps + again, state)
    assert list(state.train["loss"]) == [2.0] * 39 + [9.0] * 5
    assert everything(state) == everything(one_by_one(steps + again))


def test_a_loss_that_is_no_number_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(log(STARTED, train_step(1), train_step(2, loss=float("nan")), train_step(3, grad_norm=float("inf"))))
    state = RunState()
    fold_lines(lines, state)
    assert str(list(state.train["loss"])) == "[2.0, nan, 2.0]"
    assert state.train["grad_norm"][2] == float("inf")


def test_the_one_that_listens_hears_of_everything_but_steps() -> None:
    heard: list[ev.Event] = []
    lines = lines_of(
        log(STARTED, *(train_step(step, loss=float("nan")) for step in range(1, 30)), ev.Note("out of memory", "warning"))
    )
    fold_lines(lines, RunState(), lambda envelope: heard.append(envelope.event))
    assert heard == [STARTED, ev.Note("out of memory", "warning")]


def test_steps_are_folded_as_columns_not_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(log_fold, "readable", lambda line: (read.append(line), readable(line))[1])
    state = RunState()
    fold_lines(lines_of(log(STARTED, *(train_step(step) for step in range(1, 5000)))), state)
    assert len(state.train) == 4999
    assert len(read) == 1


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_LONGEST_LINE", 1 << 16)
    run = write(Workspace(tmp_path), "stopped")
    whole = run.events.read_bytes()
    run.events.write_bytes(b"x" * (10 << 16) + b"\n" + whole)
    reader, most, read = EventReader(run), 0, 0
    while lines := reader.read_lines(1 << 14):
        most, read = max(most, sum(map(len, lines))), read + len(lines)
    assert most <= (1 << 16) + (1 << 14)
    assert reader.offset == run.events.stat().st_size
    assert event_log.read_state(run).step == 640


@pytest.mark.parametrize(
    "damage", [(b'"loss":2.0', b'"loss":' + b"1" * 400), (b'"loss":2.0', b'"loss":null'), (b'"tokens":', b'"tokens":[],"x":')]
)
def test_a_step_with_a_value_of_another_kind_hides_itself_and_not_the_run(damage: tuple[bytes, bytes]) -> None:
    lines = lines_of(log(STARTED, *(train_step(step) for step in range(1, 6))))
    lines[3] = lines[3].replace(*damage)
    state = RunState()
    fold_lines(lines, state)
    assert list(state.train["step"]) == [1, 2, 4, 5]
