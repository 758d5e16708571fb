"""Packed rows: what documents see of each other, and what is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.training.loss import loss_sum, trained_tokens
from pipeline.training.packed_rows import Document, EpochSampler, PackedRow, collate


def document(*ids: int, untrained: int = 0) -> Document:
    array = np.array(ids, np.int64)
    labels = array.copy()
    labels[:untrained] = NOT_TRAINED
    return Document(array, labels)


DOCUMENTS = [document(*range(5, 17), untrained=4), document(*range(100, 121), untrained=7), document(7, 7, 300, 301, 2)]


def logits_of(model: Any, rows: list[PackedRow], **more: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    batch = collate(rows)
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")} | more
        return model(**inputs, use_cache=False).logits, batch


def summed_loss(model: Any, rows: list[PackedRow], **more: torch.Tensor) -> float:
    logits, batch = logits_of(model, rows, **more)
    return float(loss_sum(logits, batch["labels"]))


def unpacked_loss(model: Any) -> float:
    return sum(summed_loss(model, [[each]]) for each in DOCUMENTS)


def test_packed_loss_is_the_sum_of_the_unpacked_losses(plain_model: Any) -> None:
    expected = unpacked_loss(plain_model)
    assert summed_loss(plain_model, [DOCUMENTS]) == pytest.approx(expected, rel=1e-5)
    in_two_rows = [DOCUMENTS[:2], DOCUMENTS[2:]]  # of unequal length: the second is padded
    assert summed_loss(plain_model, in_two_rows) == pytest.approx(expected, rel=1e-5)


def test_the_control_without_isolation_gives_another_loss(plain_model: Any) -> None:
    """What the test above would miss if documents saw each other: a 2-D mask, or positions that run through."""
    expected = unpacked_loss(plain_model)
    width = sum(len(each.ids) for each in DOCUMENTS)
    masked = summed_loss(plain_model, [DOCUMENTS], attention_mask=torch.ones(1, width, dtype=torch.long))
    running = summed_loss(plain_model, [DOCUMENTS], position_ids=torch.arange(width)[None])
    assert masked != pytest.approx(expected, rel=1e-5)
    assert running != pytest.approx(expected, rel=1e-5)


def test_changing_the_first_document_leaves_the_logits_of_the_second_alone(plain_model: Any) -> None:
    first, second = DOCUMENTS[0], DOCUMENTS[1]
    other = document(*range(400, 412))
    before, _ = logits_of(plain_model, [[first, second]])
    after, _ = logits_of(plain_model, [[other, second]])
    border = len(first[0])
    assert torch.equal(before[:, border:], after[:, border:])
    assert not torch.equal(before[:, :border], after[:, :border])


def test_padding_changes_no_logits_and_is_no_id(plain_model: Any) -> None:
    """The shorter row's padding holds id 0; a document may hold it too and is trained on it."""
    with_zero = document(9, 0, 0, 4)
    alone, _ = logits_of(plain_model, [[with_zero]])
    padded, batch = logits_of(plain_model, [[with_zero], [DOCUMENTS[1]]])
    assert torch.allclose(alone[0], padded[0, :4], atol=1e-5)
    assert batch["labels"][0].tolist() == [NOT_TRAINED, 0, 0, 4] + [NOT_TRAINED] * (len(DOCUMENTS[1][0]) - 4)
    assert batch["real_tokens"] == 4 + len(DOCUMENTS[1][0])


def test_no_document_is_trained_to_follow_another() -> None:
    batch = collate([DOCUMENTS])
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    assert starts == [0, 12, 33]
    assert all(batch["labels"][0, start] == NOT_TRAINED for start in starts)
    assert trained_tokens(batch["labels"]) == 8 + 14 + 4


def test_rows_are_as_wide_as_the_longest_of_the_micro_batch() -> None:
    assert collate([[DOCUMENTS[2]], [DOCUMENTS[0]]])["input_ids"].shape == (2, 12)


def test_each_epoch_has_an_order_of_its_own_that_comes_again() -> None:
    sampler, again = EpochSampler(50, seed=1), EpochSampler(50, seed=1)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    again.set_epoch(2)  # as a resume in the third epoch does
    assert list(again) == orders[2]
    assert sorted(orders[0]) == list(range(50)) and len({tuple(order) for order in orders}) == 3
    assert list(EpochSampler(50, seed=2)) != orders[0]
