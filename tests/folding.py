"""A log's state from its events alone, without a file."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.runs.events import Envelope
from pipeline.runs.state import RunState


def fold(envelopes: Iterable[Envelope], state: RunState | None = None) -> RunState:
    """The state after all of `envelopes`, starting from `state` (changed in place) or from nothing."""
    state = state or RunState()
    for envelope in envelopes:
        state.apply(envelope)
    return state
