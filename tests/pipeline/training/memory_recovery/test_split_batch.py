"""Parts of a micro-batch: nothing is lost, no document is cut, and what they give adds up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training import varlen
from pipeline.training.loss import loss_sum, trained_tokens
from pipeline.training.memory_recovery.split_batch import Batch, halves, tokens_of
from pipeline.training.packed_rows import Document, PackedRow, collate

# Rows as lists of document lengths.
ROWS = st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=4), min_size=1, max_size=5)


def rows_of(lengths: list[list[int]]) -> list[PackedRow]:
    """No two documents share a token, so that each can be told from the others."""
    token, rows = 3, []
    for row in lengths:
        documents = []
        for length in row:
            ids = np.arange(token, token + length)
            token += length
            documents.append(Document(ids, np.where(np.arange(length) < length // 2, -100, ids)))
        rows.append(documents)
    return rows


def documents_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of every document with a trained token, in order."""
    found = []
    for ids, labels, positions in zip(batch["input_ids"], batch["labels"], batch["position_ids"], strict=True):
        starts = [*torch.nonzero(positions == 0).flatten().tolist(), len(ids)]
        for start, end in pairwise(starts):
            assert positions[start:end].tolist() == list(range(end - start))
            if (labels[start:end] >= 0).any():
                found.append((ids[start:end].tolist(), labels[start:end].tolist()))
    return found


def leaves(batch: Batch) -> list[Batch]:
    """What is left when everything that can be halved is."""
    parts = halves(batch)
    return [leaf for part in parts for leaf in leaves(part)] if parts else [batch]


@given(ROWS, st.booleans())
@settings(max_examples=200)
def test_halves_hold_the_same_documents_whole_and_are_smaller(lengths: list[list[int]], as_one_sequence: bool) -> None:
    batch: Batch = collate(rows_of(lengths))
    batch = varlen.as_one_sequence(batch) if as_one_sequence else batch
    parts = halves(batch)
    if not parts:
        assert len(documents_of(batch)) == 1
        return
    assert [document for part in parts for document in documents_of(part)] == documents_of(batch)
    assert all(tokens_of(part) < tokens_of(batch) for part in parts)
    assert all(trained_tokens(part["labels"]) for part in parts)
    assert all(len(documents_of(leaf)) == 1 for leaf in leaves(batch))


@given(ROWS)
def test_a_part_of_one_sequence_has_the_offsets_it_would_have_been_collated_with(lengths: list[list[int]]) -> None:
    for part in halves(varlen.as_one_sequence(collate(rows_of(lengths)))):
        anew = varlen.as_one_sequence(part)
        assert part["cu_seq_lens_q"].tolist() == anew["cu_seq_lens_q"].tolist()
        assert part["cu_seq_lens_q"][-1] == part["cu_seq_lens_k"][-1] == tokens_of(part)
        positions = part["position_ids"][0]
        assert set(part["cu_seq_lens_q"].tolist()) == {*torch.nonzero(positions == 0).flatten().tolist(), tokens_of(part)}
        assert part["max_length_q"] == int(positions.max()) + 1


def test_a_row_is_cut_at_the_document_start_nearest_its_middle() -> None:
    first, second = halves(collate(rows_of([[2, 3, 9, 4]])))
    assert [tokens_of(first), tokens_of(second)] == [5, 13]  # 5 is nearer to 9 than 14 is


def test_padding_is_left_behind() -> None:
    (part,) = [part for part in halves(collate(rows_of([[3], [9]]))) if tokens_of(part) and part["input_ids"][0, 0] == 3]
    (document,) = halves(part)
    assert tokens_of(part) == 9 and tokens_of(document) == 3


@pytest.mark.parametrize("lengths", [[[9, 5, 6], [17], [4, 4]], [[7, 8, 5]]])
def test_losses_and_gradients_of_the_parts_add_up_to_those_of_the_whole(plain_model: Any, lengths: list[list[int]]) -> None:
    batch = collate(rows_of(lengths))
    loss, gradients = loss_and_gradients(plain_model, [batch])
    parts_loss, parts_gradients = loss_and_gradients(plain_model, leaves(batch))
    assert len(leaves(batch)) == sum(map(len, lengths))
    assert parts_loss == pytest.approx(loss, rel=1e-6)
    assert float((parts_gradients - gradients).norm() / gradients.norm()) < 1e-6


def loss_and_gradients(model: Any, batches: list[Batch]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = loss_sum(logits, batch["labels"])
        loss.backward()
        total += float(loss.detach())
    gradients = torch.cat([each.grad.flatten() for each in model.parameters()])
    model.zero_grad()
    return total, gradients
