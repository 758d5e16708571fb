"""Snapshots: frozen, whatever the run does after them, and cheap while it grows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs import events as ev
from pipeline.runs.fold_cache import summarize
from pipeline.runs.folders import RunFolder
from pipeline.runs.state import RunState
from screens.frame.run_snapshot import Freezer, Snapshot
from tests.folding import fold
from tests.pipeline.runs.event_strategies import logs
from tests.pipeline.runs.logs import STARTED, log, train_step


def freeze(freezer: Freezer, state: RunState) -> Snapshot:
    return freezer.freeze(state, summarize(state), state.status, 0.0, (), ())


def freezer() -> Freezer:
    from pathlib import Path

    return Freezer(RunFolder(Path("runs/p/r")))


@given(logs(), st.lists(st.integers(1, 9), min_size=1))
def test_every_snapshot_is_the_fold_at_its_moment_for_ever(envelopes: list[ev.Envelope], sizes: list[int]) -> None:
    made, state, begin, turn = freezer(), RunState(), 0, 0
    seen: list[tuple[Snapshot, list[list[float]]]] = []
    while begin < len(envelopes):
        size = sizes[turn % len(sizes)]
        fold(envelopes[begin : begin + size], state)
        begin, turn = begin + size, turn + 1
        columns = [list(state.train[name]) for name in ("step", "loss", "lr", "grad_norm")]
        held_out = [list(state.held_out[name]) for name in ("step", "loss")]
        seen.append((freeze(made, state), [*columns, *held_out]))
    for snapshot, expected in seen:
        c = snapshot.columns
        assert [list(x) for x in (c.step, c.loss, c.lr, c.grad_norm, c.held_step, c.held_loss)] == expected


def test_a_curve_cut_back_and_grown_past_its_old_end_between_two_looks_is_not_glued_together() -> None:
    made = freezer()
    first = log(STARTED, *(train_step(step, loss=1.0) for step in range(1, 11)))
    state = fold(first)
    before = freeze(made, state)
    fold(log(ev.Resumed(5), *(train_step(step, loss=2.0) for step in range(6, 21)), first=20), state)
    after = freeze(made, state)
    assert list(before.columns.loss) == [1.0] * 10
    assert list(after.columns.loss) == [1.0] * 5 + [2.0] * 15


def test_what_is_known_is_not_copied_again() -> None:
    made = freezer()
    state = fold(log(STARTED, *(train_step(step) for step in range(1, 11))))
    first = freeze(made, state)
    fold(log(train_step(11), first=50), state)
    second = freeze(made, state)
    assert np.shares_memory(second.columns.loss, first.columns.loss)
    assert not second.columns.loss.flags.writeable
