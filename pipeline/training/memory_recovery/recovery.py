"""Memory that runs out in the middle of training: the same rows in smaller pieces, and neither batch, steps nor loss change.

A piece that found no room leaves no trace: gradients and random generators are put back before its halves are tried, for an error
in a backward pass has added some layers' gradients and not others', while the loss that is logged looks as always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from pipeline.runs.events import Event, MemoryAnswer, MemoryPlace, MemoryRanOut
from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, unless_short
from pipeline.training.checkpointing.random_state import RandomState
from pipeline.training.memory_recovery.activation_checkpointing import Activations
from pipeline.training.memory_recovery.limits import Limits
from pipeline.training.memory_recovery.split_batch import Batch, halves, tokens_of
from pipeline.training.memory_recovery.tensor_snapshot import TensorSnapshot

T = TypeVar("T")


def in_pieces(
    batch: Batch,
    work: Callable[[Batch], T],
    limit: Callable[[], int | None],
    learn: Callable[[int, int], None],
    last_resort: Callable[[Batch], bool],
    document: str = "one document",
) -> Iterator[T]:
    """What `work` returns for a micro-batch, or for its parts in order where the whole finds no room.

    Args:
        batch: as a collator makes it, see `split_batch`.
        work: leaves nothing behind when memory runs out in it.
        limit: most tokens at once, padding included, as far as is known; None while everything fitted.
        learn: called with how many tokens found no room and how many at most are tried next.
        last_resort: called with one document that finds no room; true to try it again.
        document: what the error calls it.

    Raises:
        OutOfMemory: there is nothing left to try.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        most = limit()
        if most is not None and tokens_of(part) > most and (parts := halves(part)):
            waiting += reversed(parts)
            continue
        result = unless_short(lambda part=part: work(part))  # type: ignore[misc]
        if result is not NO_ROOM:
            yield result
        elif parts := halves(part):
            learn(tokens_of(part), max(map(tokens_of, parts)))
            waiting += reversed(parts)
        elif last_resort(part):
            waiting.append(part)
        else:
            raise OutOfMemory(f"{document} of {tokens_of(part):,} tokens does not fit")


class TrainingMemory:
    """What a trainer asks about memory.

    Attributes:
        at_rest: the random generators as the newest whole optimizer step left them; None between steps, when they still are.

    Args:
        model: whose trained parameters' gradients a piece without room may have changed.
        activations: of the model, or of the fused layers over it.
        limits: what was learned before; what is learned now is written into it.
        step: gives the number of optimizer steps that are done.
        disturbed: called when the time of the step being made says nothing about the others.
    """

    def __init__(
        self,
        model: Any,
        activations: Activations,
        limits: Limits,
        emit: Callable[[Event], None],
        step: Callable[[], int],
        disturbed: Callable[[], None],
    ) -> None:
        self.at_rest: RandomState | None = None
        self._activations, self._limits, self._emit, self._step, self._disturbed = activations, limits, emit, step, disturbed
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step_begins(self) -> None:
        """To be called before the first micro-batch of an optimizer step."""
        self.at_rest = RandomState.capture()

    def step_ended(self) -> None:
        """To be called when the optimizer's step is done: what the generators drew belongs to it."""
        self.at_rest = None

    # -------------------------------------------------------------------------------------------- training

    def forward_backward(self, batch: Batch, work: Callable[[Batch], torch.Tensor], *, traceless: bool = False) -> torch.Tensor:
        """The losses of `work` over the micro-batch or its parts, added up like their gradients.

        Args:
            work: forward and backward of a micro-batch; returns its loss, () on the device.
            traceless: `work` leaves nothing behind when memory runs out in it. Else it is made so here.

        Returns:
            () on the device.

        Raises:
            OutOfMemory: one document does not fit with its activations recomputed.
        """
        retries = _Retries()
        losses = list(
            in_pieces(
                batch,
                work if traceless else lambda part: self._undone_when_short(part, work),
                lambda: self._limits.train_tokens,
                self._learn_train,
                lambda part: self._recompute(part) or self._again(part, retries),
            )
        )
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _undone_when_short(self, batch: Batch, work: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        without = [parameter for parameter in self._trained if parameter.grad is None]
        gradients = TensorSnapshot(parameter.grad for parameter in self._trained if parameter.grad is not None)
        random = RandomState.capture()
        try:
            return work(batch)
        except BaseException:
            for parameter in without:
                parameter.grad = None
            gradients.restore()
            random.restore()
            raise

    def _learn_train(self, tokens: int, limit: int) -> None:
        self._limits.train_tokens = limit
        self._report("training", "smaller pieces", tokens, limit)

    def _recompute(self, part: Batch) -> bool:
        """Recompute activations from now on; False when they are already. What fits then is another question than before."""
        if self._activations.are_recomputed() or not self._activations.can_be_recomputed():
            return False
        self._activations.recompute()
        self._limits.checkpointing, self._limits.train_tokens = True, None
        self._report("training", "recompute activations", tokens_of(part))
        return True

    def _again(self, part: Batch, retries: _Retries) -> bool:
        left = retries.left()
        if left:
            self._report("training", "done again", tokens_of(part))
        return left

    def optimizer_step_done_again(self) -> None:
        """The optimizer found no room for its step, undid it and goes another way."""
        self._report("optimizer step", "done again")

    def _report(self, place: MemoryPlace, answer: MemoryAnswer, tokens: int = 0, limit: int = 0) -> None:
        self._disturbed()
        self._emit(MemoryRanOut(self._step() + 1, place, answer, tokens, limit))

    # ------------------------------------------------------------------------------------------ evaluation

    def held_out(self, batch: Batch, work: Callable[[Batch], T]) -> Iterator[T]:
        """What `work` returns for a micro-batch of held-out rows, or for its parts in order.

        Args:
            work: a forward pass without gradients, which leaves nothing behind when memory runs out in it.

        Raises:
            OutOfMemory: one document does not fit.
        """
        retries = _Retries()
        limit = self._limits
        return in_pieces(
            batch, work, lambda: limit.held_out_tokens, self._learn_held_out, lambda _: retries.left(), "one held-out document"
        )

    def _learn_held_out(self, tokens: int, limit: int) -> None:
        self._limits.held_out_tokens = limit
        self._emit(MemoryRanOut(self._step(), "held-out loss", "smaller pieces", tokens, limit))

    def samples_left_out(self) -> None:
        """There was no room for an answer: it is only there to be read."""
        self._emit(MemoryRanOut(self._step(), "samples", "left out"))


class _Retries:
    """One more try as it is: somebody else's memory, or holes between tensors, may be gone by then."""

    def __init__(self) -> None:
        self._left = 1

    def left(self) -> bool:
        self._left -= 1
        return self._left >= 0
