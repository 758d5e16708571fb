"""Memory that ran out is known by every name, and the same is done in halves."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, in_halves, is_out_of_memory, unless_short
from tests.pipeline.training.shortage import ERRORS


def after(first: Exception, error: Exception) -> Exception:
    """`error` as it is when it was raised while `first` was on its way."""
    error.__context__ = first
    return error


BROKEN_OFF = "CUDA error: operation failed due to a previous error during capture"


@pytest.mark.parametrize(
    "error",
    [
        *(make() for make in ERRORS),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        after(torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(BROKEN_OFF)),
    ],
)
def test_memory_that_ran_out_is_known_by_every_name_it_has(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert unless_short(raising(error)) is NO_ROOM


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OutOfMemory("told already"),
        after(RuntimeError("CUDA error: unspecified launch failure"), RuntimeError(BROKEN_OFF)),
        after(MemoryError(), RuntimeError("the size of tensor a must match")),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)):
        unless_short(raising(error))


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_what_the_failed_attempt_held_is_free_before_the_next() -> None:
    """An exception that is kept would keep the tensors of its frames, and the halves would find no room either."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(1000)
        kept.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert unless_short(work) is NO_ROOM
    assert kept[0]() is None


@settings(max_examples=25)  # each halving collects what the failure left behind, all of the process's objects
@given(st.lists(st.integers(), min_size=1, max_size=20), st.integers(1, 20))
def test_halves_give_the_results_of_the_whole_in_its_order(items: list[int], room: int) -> None:
    def work(some: Sequence[int]) -> list[int]:
        if len(some) > room:
            raise MemoryError
        return [3 * each for each in some]

    assert in_halves(items, work, lambda _: AssertionError()) == [3 * each for each in items]
