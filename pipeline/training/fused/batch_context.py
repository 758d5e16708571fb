"""What every layer reads of a micro-batch: the angles of its positions, which tokens see which, and its dropout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from pipeline.training.fused.torch_ops import Angles, Dropout


class Seen(NamedTuple):
    """Which tokens attend to which, by their indices in the micro-batch. Neither ever falls from a token to the next."""

    first: torch.Tensor  # (T,) int32: the first token that each sees
    last: torch.Tensor  # (T,) int32: the index behind the last token that sees each


@dataclass(frozen=True)
class BatchContext:
    """Of one micro-batch.

    Attributes:
        angles: by the name a layer's `rotation` has for them.
        seen: by the window of a layer, 0 for the whole document.
        dropout: of the whole micro-batch; each place in the model salts it. None for none.
    """

    angles: Mapping[str, Angles]
    seen: Mapping[int, Seen]
    dropout: Dropout | None = None

    def tensors(self) -> list[torch.Tensor]:
        """All there are, in an order that `with_tensors` knows."""
        found = [each for pair in (*self.angles.values(), *self.seen.values()) for each in pair]
        return [*found, self.dropout.key] if self.dropout else found

    def with_tensors(self, tensors: Iterable[torch.Tensor]) -> BatchContext:
        """The same over others, in the order of `tensors`."""
        given = iter(tensors)
        angles = {name: Angles(next(given), next(given)) for name in self.angles}
        seen = {window: Seen(next(given), next(given)) for window in self.seen}
        return BatchContext(angles, seen, replace(self.dropout, key=next(given)) if self.dropout else None)


def seen_through(windows: Iterable[int], doc_start: torch.Tensor, doc_end: torch.Tensor) -> dict[int, Seen]:
    """What is seen through each window, 0 for the whole document.

    Args:
        windows: tokens that a token sees, itself included.
        doc_start, doc_end: (T,) int32: index of the first token of each one's document, and behind its last.
    """
    places = torch.arange(doc_start.numel(), dtype=torch.int32, device=doc_start.device)  # (T,)
    return {
        window: Seen(torch.maximum(doc_start, places - (window - 1)), torch.minimum(doc_end, places + window))
        if window
        else Seen(doc_start, doc_end)
        for window in sorted(set(windows))
    }
