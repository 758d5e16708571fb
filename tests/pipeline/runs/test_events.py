"""The log's lines: each event back as it was, strangers skipped, one line each whatever the text."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, from_line, to_line
from tests.pipeline.runs.event_strategies import any_event, events


def comparable(value: Any) -> Any:
    """NaN equals NaN here."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return tuple(map(comparable, value)) if isinstance(value, tuple) else value


def fields(event: ev.Event) -> dict[str, Any]:
    return {field.name: comparable(getattr(event, field.name)) for field in dataclasses.fields(event)}


@pytest.mark.parametrize("kind", sorted(ev.KINDS))
@given(data=st.data())
def test_every_event_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    event = data.draw(events(ev.KINDS[kind]))
    line = to_line(Envelope(7, 1763800000.25, 2, event)).encode("utf-8", "backslashreplace")
    back = from_line(line)
    assert back is not None
    assert (back.seq, back.time, back.attempt, type(back.event)) == (7, 1763800000.25, 2, type(event))
    assert fields(back.event) == fields(event)
    assert {name: type(value) for name, value in fields(back.event).items()} == {n: type(v) for n, v in fields(event).items()}


@given(any_event())
def test_an_event_is_one_line_of_strict_json(event: ev.Event) -> None:
    line = to_line(Envelope(1, 1.0, 1, event))
    assert len(line.encode("utf-8", "backslashreplace").splitlines()) == 1

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(line, parse_constant=refuse)
    assert document["v"] == ev.SCHEMA_VERSION
    assert document["kind"] == event.kind


def test_a_kind_of_a_newer_version_is_skipped() -> None:
    assert from_line('{"v": 9, "seq": 1, "time": 1.0, "attempt": 1, "kind": "moon_phase", "phase": 0.5}') is None


@given(any_event())
def test_a_field_of_a_newer_version_is_skipped(event: ev.Event) -> None:
    document = json.loads(to_line(Envelope(1, 1.0, 1, event))) | {"a_new_field": [1, {"deep": None}]}
    back = from_line(json.dumps(document))
    assert back is not None
    assert fields(back.event) == fields(event)


def test_a_field_of_a_newer_version_may_be_missing_in_an_old_log() -> None:
    document = json.loads(to_line(Envelope(1, 1.0, 1, ev.TrainStep(1, 2, 0.5, 3.0, 1e-4, 1.0, 10, 5, 0.1))))
    del document["counted"], document["peak_memory_bytes"]
    back = from_line(json.dumps(document))
    assert back is not None
    assert back.event == ev.TrainStep(1, 2, 0.5, 3.0, 1e-4, 1.0, 10, 5, 0.1)


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "1", '"text"', "null", '{"kind": "note"}', '{"v": 1, "kind": "note", "seq": 1, "time": 1, "attempt": 1}'],
)
def test_what_is_no_event_is_an_error_and_not_a_wrong_event(line: str) -> None:
    with pytest.raises(ValueError):
        from_line(line)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_diverged_loss_comes_back_as_it_was(value: float) -> None:
    back = from_line(to_line(Envelope(1, 1.0, 1, ev.TrainingDiverged(3, "loss", value))))
    assert back is not None
    assert comparable(back.event.value) == comparable(value)  # type: ignore[attr-defined]
