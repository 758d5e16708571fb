"""Hypothesis strategies for every kind of event, made from the fields' types, so that a new event is tested when it is added."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from hypothesis import strategies as st

from pipeline.runs.events import KINDS, Envelope, Event


def _values(hint: Any, floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    if isinstance(hint, types.UnionType):
        return st.one_of([_values(part, floats) for part in typing.get_args(hint)])
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return st.lists(_values(typing.get_args(hint)[0], floats), max_size=3).map(tuple)
    text = st.text(st.characters(), max_size=20)  # lone surrogates too: file names can hold them
    known = {float: floats, int: st.integers(0, 10_000), bool: st.booleans(), str: text, type(None): st.none()}
    return known[hint]


def events(cls: type[Event], *, finite: bool = False) -> st.SearchStrategy[Event]:
    """Events of one kind."""
    floats = st.floats(0, 1e9) if finite else st.floats()
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: _values(hints[field.name], floats) for field in dataclasses.fields(cls)})


def any_event(*, finite: bool = False) -> st.SearchStrategy[Event]:
    """Events of every kind."""
    return st.one_of([events(cls, finite=finite) for cls in KINDS.values()])


def logs(*, finite: bool = True) -> st.SearchStrategy[list[Envelope]]:
    """Whole logs: numbers from 1, attempts that grow, times that grow."""
    return st.lists(any_event(finite=finite), max_size=40).map(
        lambda listed: [Envelope(number, 1e9 + number, 1 + number // 15, event) for number, event in enumerate(listed, start=1)]
    )
