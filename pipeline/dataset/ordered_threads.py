"""Work done ahead of its turn by other threads, and handed on in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 8  # more than one reader can feed


def in_order(items: Iterable[Item], work: Callable[[Item], Result]) -> Generator[tuple[Item, Result]]:
    """Each item with what `work` makes of it, in the order of `items`, as many at once as there are processors.

    For work that lets go of the interpreter. Whatever the number of threads, the outcome is the same. Only a few items are taken
    ahead, so memory is bounded; when the caller stops early, these are finished.
    """
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > threads + 1:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
