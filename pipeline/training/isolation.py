"""How a collated micro-batch is handed to the model's own layers so that no conversation sees another.

The way is the plan's, and the proof at load has tried it. Not asked by the fused layers, which read the documents from positions.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.planning.compute import Isolation
from pipeline.training.packed_rows import BY_TOKEN

Batch = dict[str, Any]


def model_inputs(batch: Batch, isolation: Isolation | str, device: torch.device | str = "cpu") -> Batch:
    """What the model is called with in place of a collated micro-batch, or of a part of one.

    Args:
        batch: as `packed_rows.collate` or `varlen.as_one_sequence` makes it.
        isolation: of the plan; empty for one of a version that knew positions only.
        device: the model's.

    Returns:
        for "rows" without positions, which each row counts from its start anyway: padding behind it is seen by no token. For
        "mask" with `attention_mask`, (rows, 1, tokens, tokens) bool: which tokens a token sees. For "indices" one row of all
        documents, (1, rows × tokens), with `seq_idx`, (1, rows × tokens) int32: the number of each token's document, and
        `cu_seq_lens_q`, `cu_seq_lens_k`, (documents + 1,) int32: where they begin and the last ends.
    """
    if isolation == "rows" and "cu_seq_lens_q" not in batch:
        return {name: value for name, value in batch.items() if name != "position_ids"}
    if isolation == "mask" and "cu_seq_lens_q" not in batch:
        return batch | {"attention_mask": _mask(batch["position_ids"].to(device))}
    if isolation != "indices":
        return batch
    flat = {name: batch[name].reshape(1, -1) for name in BY_TOKEN if name in batch}
    begins = flat["position_ids"] == 0  # (1, rows × tokens) bool
    starts = torch.nonzero(begins[0]).flatten()  # (documents,) int64
    offsets = torch.cat([starts, starts.new_tensor([begins.numel()])]).to(torch.int32)
    longest = int(torch.diff(offsets).max())
    return batch | flat | {
        "seq_idx": (begins.cumsum(1) - 1).to(torch.int32),
        "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets, "max_length_q": longest, "max_length_k": longest,
    }  # fmt: skip


def _mask(positions: torch.Tensor) -> torch.Tensor:
    """(rows, 1, tokens, tokens) bool, of positions (rows, tokens): a token sees itself and those before it in its document."""
    document = (positions == 0).cumsum(1)  # (rows, tokens) int64
    same = document[:, :, None] == document[:, None, :]
    return same.tril()[:, None]
