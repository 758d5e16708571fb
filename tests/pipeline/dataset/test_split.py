"""The split follows from seed and content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.schema import SplitSection
from pipeline.dataset.cleaning import digest
from pipeline.dataset.split import assign, held_out
from tests.pipeline.dataset.turns import turns


def names(count: int) -> list[bytes]:
    return [digest(turns(("user", str(number)))) for number in range(count)]


def test_the_split_follows_from_seed_and_content_alone() -> None:
    digests, shares = names(1000), SplitSection()
    first = assign(digests, shares, seed=42)
    assert np.array_equal(first, assign(digests, shares, seed=42))
    assert not np.array_equal(first, assign(digests, shares, seed=43))
    turned = assign(digests[::-1], shares, seed=42)
    assert np.array_equal(first, turned[::-1]), "the order of the file does not matter"
    assert [int((first == split).sum()) for split in range(3)] == [800, 100, 100]


def test_one_more_row_moves_few_others() -> None:
    before, after = assign(names(1000), SplitSection(), 42), assign(names(1001), SplitSection(), 42)
    assert (before != after[:1000]).sum() <= 2


@pytest.mark.parametrize(
    ("rows", "shares", "expected"),
    [
        (12, (0.8, 0.1, 0.1), (1, 1)),
        (1, (0.8, 0.1, 0.1), (0, 0)),
        (2, (0.8, 0.1, 0.1), (1, 0)),
        (3, (0.8, 0.1, 0.1), (1, 1)),
        (3, (0.02, 0.49, 0.49), (1, 1)),
        (10, (0.02, 0.49, 0.49), (5, 4)),
        (100, (1, 0, 0), (0, 0)),
        (3, (0.99, 0, 0.01), (0, 1)),
        (1000, (0.8, 0.15, 0.05), (150, 50)),
    ],
)
def test_small_sets_keep_a_row_to_train_on_then_one_for_val_then_test(
    rows: int, shares: tuple[float, float, float], expected: tuple[int, int]
) -> None:
    section = SplitSection(train=shares[0], val=shares[1], test=shares[2])
    assert held_out(rows, section) == expected


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 500), val=st.floats(0, 0.49), test=st.floats(0, 0.49))
def test_there_is_always_a_row_to_train_on(rows: int, val: float, test: float) -> None:
    taken = held_out(rows, SplitSection(train=1 - val - test, val=val, test=test))
    assert min(taken) >= 0 and sum(taken) < rows
