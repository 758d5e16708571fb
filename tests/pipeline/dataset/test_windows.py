"""Long documents in windows."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.windows import windows
from pipeline.tokenization.messages import NOT_TRAINED


@settings(max_examples=300, deadline=None)
@given(length=st.integers(1, 200), longest=st.integers(2, 50), data=st.data())
def test_windows_hold_every_trained_token_once_with_context_before_it(length: int, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest - 1))
    ids = list(range(1000, 1000 + length))
    trained = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    labels = [number if on and place else NOT_TRAINED for place, (number, on) in enumerate(zip(ids, trained, strict=True))]
    arrays = (np.array(column, dtype=np.int32) for column in (ids, labels))
    pieces = [(piece.tolist(), its_labels.tolist()) for _, piece, its_labels in windows(*arrays, longest, overlap)]
    once = [label for _ids, piece in pieces for label in piece if label != NOT_TRAINED]
    assert once == [label for label in labels if label != NOT_TRAINED]
    for piece_ids, piece_labels in pieces:
        assert 1 <= len(piece_ids) == len(piece_labels) <= longest
        assert piece_labels[0] == NOT_TRAINED, "nothing predicts the first token of a row"
        assert all(label in (number, NOT_TRAINED) for number, label in zip(piece_ids, piece_labels, strict=True))
    for (before, _), (after, _labels) in itertools.pairwise(pieces):
        assert before[-max(1, overlap) :] == after[: max(1, overlap)]
