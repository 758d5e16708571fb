"""Rows of documents: all of them, none too long, little room left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.packing import ROWS_AN_EPOCH, pack, row_capacity

lengths_and_capacity = st.integers(2, 200).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=80), st.just(capacity))
)


@settings(max_examples=200, deadline=None)
@given(case=lengths_and_capacity, packing=st.booleans())
def test_every_document_stands_in_one_row_and_no_row_is_too_long(case: tuple[list[int], int], packing: bool) -> None:
    lengths, capacity = case
    rows = pack(lengths, capacity, packing)
    assert sorted(document for row in rows for document in row.tolist()) == list(range(len(lengths)))
    assert all(0 < sum(lengths[document] for document in row) <= capacity for row in rows)
    assert packing or [row.tolist() for row in rows] == [[document] for document in range(len(lengths))]


@settings(max_examples=100, deadline=None)
@given(case=lengths_and_capacity)
def test_each_document_goes_where_it_leaves_least_room(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    # The rule written out naively: the longest first, into the fullest row that takes it.
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [left for left in room if left >= length]
        if fitting:
            room.remove(min(fitting))
        room.append((min(fitting) if fitting else capacity) - length)
    rows = pack(lengths, capacity)
    assert sorted(capacity - sum(lengths[document] for document in row) for row in rows) == sorted(room)


def test_the_same_lengths_give_the_same_rows() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, size=5000)
    first, second = pack(lengths, 1024), pack(lengths.tolist(), 1024)
    assert [row.tolist() for row in first] == [row.tolist() for row in second]


def test_a_million_documents_fill_their_rows() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.5, 0.8, size=1_000_000).astype(int), 2, 1024)
    rows = pack(lengths, 1024)
    assert lengths.sum() / (1024 * len(rows)) > 0.99


@pytest.mark.parametrize("lengths", [[5, 11], [0, 3]])
def test_documents_that_fit_no_row_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="a row holds 1 to 10"):
        pack(lengths, 10)


def test_nothing_packs_into_nothing() -> None:
    assert pack([], 10) == [] == pack([], 10, packing=False)


def test_a_small_set_gets_rows_enough_to_take_steps_in() -> None:
    lengths = [40, 55, 70, 62, 48, 90, 33, 51, 47, 66]  # 562 tokens: one row of 1,024
    capacity = row_capacity(sum(lengths), max(lengths), 1024)
    assert capacity == 90
    assert len(pack(lengths, capacity)) >= 7


@given(st.lists(st.integers(1, 1024), min_size=1, max_size=200), st.integers(1024, 4096))
def test_the_capacity_holds_every_document_and_never_exceeds_max_seq_len(lengths: list[int], most: int) -> None:
    capacity = row_capacity(sum(lengths), max(lengths), most)
    assert max(lengths) <= capacity <= most
    # A set large enough keeps whole rows.
    assert capacity == most or sum(lengths) <= most * ROWS_AN_EPOCH
