"""Rotary frequencies that follow from a document's own length and from no other's.

Dynamic scaling and longrope choose their frequencies by the longest position of a forward pass, and dynamic scaling by those of
the passes before: packed or batched, a short document is rotated as the longest one beside it. Here each document, or row of
a batch being decoded, has the frequencies that it has alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Of transformers' rope types those whose frequencies are chosen anew in each forward pass.
_FOLLOW_LENGTH = ("dynamic", "longrope")


def rotate_by_own_length(model: nn.Module) -> None:
    """Make every rotary embedding of `model` whose frequencies follow the length ask for that of each document."""
    for module in model.modules():
        if _follows_length(module):
            _patch(module)


def _follows_length(module: nn.Module) -> bool:
    named = getattr(module, "rope_type", None)  # a text, or one for each type of layer
    names = named.values() if isinstance(named, dict) else [named]
    return any(isinstance(name, str) and any(each in name for each in _FOLLOW_LENGTH) for name in names)


def _patch(module: Any) -> None:
    forward, limit = module.forward, _limit(module)

    def own_length(x: torch.Tensor, position_ids: torch.Tensor, *more: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if position_ids.dim() != 2:
            answer: tuple[torch.Tensor, torch.Tensor] = forward(x, position_ids, *more, **named)
            return answer
        lengths = document_lengths(position_ids).clamp(min=limit)
        cos = sin = torch.empty(0)
        for number, length in enumerate(torch.unique(lengths).tolist()):
            of_it = lengths == length  # (rows, tokens) bool
            # What dynamic scaling remembers of longer texts is forgotten at a short one.
            forward(x, position_ids.new_zeros(1, 1), *more, **named)
            asked = torch.where(of_it, position_ids, 0)
            c, s = forward(x, asked, *more, **named)  # (rows, tokens, features) each
            cos, sin = (c, s) if number == 0 else (torch.where(of_it[..., None], c, cos), torch.where(of_it[..., None], s, sin))
        return cos, sin

    module.forward = own_length


def _limit(module: Any) -> int:
    """The shortest length, in tokens, up to which all documents have the same frequencies."""
    config = module.config
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [each for each in parameters.values() if isinstance(each, dict)]
    named = [each.get("original_max_position_embeddings") for each in (parameters, *nested)]
    found = [getattr(module, "original_max_seq_len", None), getattr(config, "max_position_embeddings", None), *named]
    return min([each for each in found if isinstance(each, int) and each > 0], default=1)


def document_lengths(position_ids: torch.Tensor) -> torch.Tensor:
    """For each token how long the text is that it belongs to, as far as it goes in this pass: (rows, tokens) int64.

    Args:
        position_ids: (rows, tokens) int64; a text goes on as long as they count by one.
    """
    starts = torch.ones_like(position_ids, dtype=torch.bool)
    starts[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
    text = starts.flatten().cumsum(0) - 1  # (rows × tokens,) int64: the number of each token's text
    lengths = torch.zeros_like(text).scatter_reduce_(0, text, position_ids.flatten() + 1, "amax")
    return lengths[text].view_as(position_ids)
