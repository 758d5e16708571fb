"""Values of many small tensors at one moment, to be put back when what follows has to be undone."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pipeline.system.out_of_memory import NO_ROOM, unless_short


class TensorSnapshot:
    """Copies in one block a device and dtype: one operation, not one a tensor. A block that doesn't fit is in host memory."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        groups: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
        for tensor in tensors:
            groups.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
        self._saved = [(group, _block(group)) for group in groups.values()]

    def restore(self) -> None:
        """Put the values back, in place."""
        for group, block in self._saved:
            pieces = torch.split(block, [tensor.numel() for tensor in group])
            for tensor, piece in zip(group, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))


def _block(tensors: list[torch.Tensor]) -> torch.Tensor:
    """(numbers of all of them,), of their dtype."""
    block = unless_short(lambda: torch.cat([tensor.reshape(-1) for tensor in tensors]))
    return torch.cat([tensor.reshape(-1).cpu() for tensor in tensors]) if block is NO_ROOM else block
