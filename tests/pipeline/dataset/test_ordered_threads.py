"""Work by several threads comes out as if one had done it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from pipeline.dataset.ordered_threads import in_order


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    second_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_done.wait(60)
        if number == 1:
            second_done.set()
        return number * number

    assert list(in_order(range(50), work)) == [(number, number * number) for number in range(50)]


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    for number, _ in in_order(items(), lambda number: number):
        assert taken - number <= 12


def test_an_error_of_the_work_comes_at_its_turn_and_no_thread_is_left() -> None:
    before = set(threading.enumerate())

    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    seen = []
    with pytest.raises(ValueError, match="five"):
        for number, _ in in_order(range(100), work):
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]
    assert set(threading.enumerate()) <= before


def test_a_caller_that_stops_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    results = in_order(range(100), lambda number: number)
    assert next(results) == (0, 0)
    results.close()
    assert set(threading.enumerate()) <= before
