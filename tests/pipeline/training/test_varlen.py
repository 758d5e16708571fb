"""Attention by offsets: the same numbers as attention by a mask, and no document sees another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training import attention, varlen
from pipeline.training.loss import loss_sum
from pipeline.training.packed_rows import Document, PackedRow, collate

gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0), reason="needs a GPU of capability 8"
)


def rows(*lengths: Sequence[int], seed: int = 0) -> list[PackedRow]:
    """One row for each list of document lengths, of random ids."""
    draw = np.random.default_rng(seed)
    made = []
    for row in lengths:
        documents = [draw.integers(3, 600, count) for count in row]
        made.append([Document(ids, np.where(np.arange(len(ids)) < len(ids) // 3, -100, ids)) for ids in documents])
    return made


def test_the_offsets_are_those_of_the_documents_and_of_the_padding() -> None:
    batch = varlen.as_one_sequence(collate(rows([3, 5], [4])))
    offsets = batch["cu_seq_lens_q"].tolist()
    assert offsets[:5] == [0, 3, 8, 12, 16]  # the second row's padding is a document of its own
    assert set(offsets[5:]) == {16}
    assert batch["max_length_q"] == 5
    assert batch["input_ids"].shape == batch["labels"].shape == (1, 16)


def model_of(folder: Path, name: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=attention.implementation(name)
    ).cuda()


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, torch.Tensor, torch.Tensor]:
    moved = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    moved.pop("real_tokens")
    labels = moved.pop("labels")
    logits = model(**moved, use_cache=False).logits
    loss = loss_sum(logits, labels)
    loss.backward()
    gradients = torch.cat([each.grad.float().flatten() for each in model.parameters() if each.grad is not None])
    model.zero_grad()
    return float(loss.detach()), gradients, logits.detach().float().reshape(-1, logits.shape[-1])


@gpu
@pytest.mark.gpu
def test_loss_and_gradients_are_those_of_the_masked_attention(tiny_model: Path) -> None:
    packed = collate(rows([40, 17, 90], [128], [5, 60, 33]))
    by_mask, wanted, _ = loss_and_gradients(model_of(tiny_model, "sdpa"), packed)
    by_offset, found, _ = loss_and_gradients(model_of(tiny_model, "varlen"), varlen.as_one_sequence(packed))
    assert by_offset == pytest.approx(by_mask, rel=2e-3)
    assert float((found - wanted).norm() / wanted.norm()) < 2e-2  # bfloat16's noise


@gpu
@pytest.mark.gpu
def test_a_document_does_not_see_the_one_before_it(tiny_model: Path) -> None:
    model = model_of(tiny_model, "varlen")
    batch, changed = (collate(rows([50, 70])) for _ in range(2))
    changed["input_ids"][0, :50] = 7
    logits, others = (loss_and_gradients(model, varlen.as_one_sequence(each))[2] for each in (batch, changed))
    assert torch.equal(logits[50:], others[50:])
    assert not torch.equal(logits[:50], others[:50])
