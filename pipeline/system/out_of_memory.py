"""Memory that runs out: known by every name the libraries give it, survived by doing less at once, reported with what to change.

Nothing here imports torch: the runner asks too, and by the time a tensor did not fit torch is there.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final, Literal, TypeVar

from pipeline.common.errors import EnvironmentFault

T = TypeVar("T")
Item = TypeVar("Item")

# Beside torch.OutOfMemoryError: an allocation outside of torch's pool, cuBLAS's and cuDNN's workspaces, and the CPU's allocator.
_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class OutOfMemory(EnvironmentFault):
    """Memory ran out where nothing smaller can be tried."""


class NoRoom(Enum):
    """What `unless_short` returns instead of a result."""

    NO_ROOM = "no room"


NO_ROOM: Final = NoRoom.NO_ROOM
_END: Final = object()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or in this process."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    # A recording of a CUDA graph that breaks off says only that; why, the error before it says.
    before = error.__context__ if "captur" in str(error) else None
    return any(message in str(error) for message in _TEXTS) or (before is not None and is_out_of_memory(before))


def unless_short(work: Callable[[], T]) -> T | Literal[NoRoom.NO_ROOM]:
    """What `work` returns, or `NO_ROOM`, with everything freed that it held.

    The caller goes on outside of any `except`: an exception that is still handled keeps the tensors of its frames alive.
    """
    try:
        return work()
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
    free()
    return NO_ROOM


def free() -> None:
    """Give back what nobody refers to, and what torch keeps of the GPU for later."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[T]], one_fails: Callable[[Item], Exception]
) -> list[T]:
    """The results of `work` for all items in their order: for all at once, for halves of them where memory runs out.

    Args:
        one_fails: what to raise when there is no room for one item alone.
    """
    done = unless_short(lambda: work(items))
    if done is not NO_ROOM:
        return list(done)
    if len(items) == 1:
        raise one_fails(items[0])
    middle = len(items) // 2
    return [*in_halves(items[:middle], work, one_fails), *in_halves(items[middle:], work, one_fails)]


def while_there_is_room(values: Iterator[T], fault: Callable[[], Exception]) -> Iterator[T]:
    """`values` until memory runs out, then `fault()` is raised.

    Args:
        values: work that is done as they are asked for.
        fault: makes the error that is raised.
    """
    while (value := unless_short(lambda: next(values, _END))) is not _END:
        if value is NO_ROOM:
            raise fault()
        yield value  # type: ignore[misc]
