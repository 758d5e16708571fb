"""Memory that runs out: known by every name the libraries give it, survived by doing less at once, told with what to change.

Nothing here imports torch: the runner asks too, and by the time a tensor did not fit torch is there.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pipeline.common.errors import EnvironmentFault

if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.runs.events import StepName

T = TypeVar("T")
Item = TypeVar("Item")

# Beside torch.OutOfMemoryError: an allocation outside of torch's pool, cuBLAS's and cuDNN's workspaces, and the CPU's allocator.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class OutOfMemory(EnvironmentFault):
    """Memory ran out where nothing smaller can be tried."""


def training_fault(config: Config, row_tokens: int, what: str, done: int, saved: int | None) -> OutOfMemory:
    """The end of a training that nothing smaller can save.

    Args:
        row_tokens: most tokens of a document.
        what: found no room.
        done: optimizer steps.
        saved: the step a resume goes on from; None for none.
    """
    again = "humigence pipeline --train"
    kept = f"step {saved} is saved, and with more memory free {again} --resume goes on from it" if saved else ""
    return OutOfMemory(
        f"memory ran out after {done:,} optimizer steps: {what}",
        "\n".join(filter(None, (f"{smaller_setting(config, row_tokens)}, then {again} begins anew", kept))),
    )


def smaller_setting(config: Config, row_tokens: int) -> str:
    """The command that changes the setting which saves most memory at this point."""
    half = row_tokens // 2
    if half >= max(
        128, 0 if config.data.window_overlap == "auto" else config.data.overlap + 1
    ):  # what a window repeats is shorter
        return f"humigence config set data.max_seq_len {half}"
    if config.train.precision_mode != "qlora_nf4":
        return "humigence config set train.precision_mode qlora_nf4"
    return "humigence config set compute.gpu to another device, or model.repo to a smaller model"


def answer_fault(prompt_tokens: int, max_new_tokens: int) -> OutOfMemory:
    """There is no room for an answer."""
    return OutOfMemory(
        f"memory ran out while answering: {prompt_tokens:,} tokens of prompt, at most {max_new_tokens:,} of answer",
        "allow shorter answers (--max-new-tokens, eval.max_new_tokens), free memory on this device, or set compute.gpu to cpu",
    )


def merge_fault(weight: str) -> OutOfMemory:
    """There is no room for a few rows of a weight and what is added to them."""
    return OutOfMemory(
        f"memory ran out while merging {weight}",
        "free memory on this machine, then humigence merge goes on; the adapter is packaged already",
    )


def step_fault(step: StepName, error: BaseException) -> OutOfMemory:
    """A step ran out of memory where it could not go on with less."""
    return OutOfMemory(f"memory ran out in {step}: {first_line(error)}", _STEP_HINTS.get(step, _ANY_STEP_HINT))


_ANY_STEP_HINT = "free memory on this machine, then do the same again; what earlier steps made is kept"
_STEP_HINTS: dict[StepName, str] = {
    "preprocess": "free memory on this machine, or put fewer rows into data.raw_path; nothing half-prepared is left",
    "train": "free memory on this machine, then humigence pipeline --train --resume goes on from the newest checkpoint",
    "evaluate": "free memory on this device, or set compute.gpu to cpu; humigence eval starts over, what was trained is kept",
    "pack": "free memory on this machine, then humigence pack; what was trained and measured is kept",
}


def first_line(error: BaseException) -> str:
    """What an exception says, as much of it as a person reads."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


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
    return any(words in str(error) for words in _SAID) or (before is not None and is_out_of_memory(before))


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
    """`values` until memory runs out, then `fault()` is raised."""
    while (value := unless_short(lambda: next(values, _END))) is not _END:
        if value is NO_ROOM:
            raise fault()
        yield value  # type: ignore[misc]
