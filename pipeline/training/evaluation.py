"""Held-out loss while training: packed like the training rows, on the same documents every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.infer import evaluating
from pipeline.packing import pack
from pipeline.training import random_state
from pipeline.training.loss import loss_sum, trained_tokens
from pipeline.training.rows import Documents, PackedRows, collate


class HeldOutRows:
    """The first `most` documents of the held-out split, in rows of `row_tokens`."""

    def __init__(self, documents: Documents, lengths: np.ndarray[Any, Any], *, most: int, row_tokens: int, packing: bool) -> None:
        self.rows = PackedRows(documents, pack(lengths[:most], row_tokens, packing))

    def loss(self, model: Any, device: torch.device, micro_batch: int) -> tuple[float, int]:
        """Mean loss over the trained tokens in nats, and how many there are. Leaves no trace in the model or any generator."""
        total, tokens = 0.0, 0
        with random_state.kept(), evaluating(model), torch.no_grad():
            for start in range(0, len(self.rows), micro_batch):
                batch = collate([self.rows[i] for i in range(start, min(start + micro_batch, len(self.rows)))])
                labels = batch["labels"].to(device)
                positions = batch["position_ids"].to(device)
                logits = model(input_ids=batch["input_ids"].to(device), position_ids=positions, use_cache=False).logits
                total += float(loss_sum(logits, labels).double())
                tokens += trained_tokens(labels)
        return total / tokens, tokens
