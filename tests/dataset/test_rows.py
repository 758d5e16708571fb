"""From a row to a clean conversation, and from conversations to splits and windows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import BadInput
from pipeline.config.schema import SplitSection
from pipeline.dataset.cleaning import EMPTY_SYSTEM, TRIMMED, UNANSWERED, clean, digest
from pipeline.dataset.reason_counts import Tally
from pipeline.dataset.schemas.registry import fitting, schema
from pipeline.dataset.split import assign, held_out
from pipeline.dataset.windows import windows
from pipeline.tokenization.messages import NOT_TRAINED, Message


def turns(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in pairs]


# ------------------------------------------------------------------------------------------------------ schemas


def test_both_schemas_mean_a_conversation() -> None:
    row = {"messages": [{"role": "user", "content": "Hi", "weight": 1}, {"role": "assistant", "content": "Ho"}], "id": 7}
    assert schema("chat_messages").messages(row) == turns(("user", "Hi"), ("assistant", "Ho"))
    row = {"instruction": "Add.", "output": "3"}
    assert schema("instruction_output").messages(row) == turns(("user", "Add."), ("assistant", "3"))
    for nothing in ("", " \n", None):
        assert schema("instruction_output").messages(row | {"input": nothing}) == schema("instruction_output").messages(row)
    assert schema("instruction_output").messages(row | {"input": "1 2"}) == turns(("user", "Add.\n\n1 2"), ("assistant", "3"))
    assert (fitting(row), fitting({"messages": []}), fitting({})) == ("instruction_output", "chat_messages", None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, 'no list "messages"'),
        ({"messages": "hi"}, 'no list "messages"'),
        ({"messages": ["hi"]}, "not an object with role and content"),
        ({"messages": [{"content": "hi"}]}, 'a message has no "role"'),
        ({"messages": [{"role": "user"}]}, 'a message has no "content"'),
        ({"messages": [{"role": "user", "content": None}]}, '"content" of a message is not text'),
        ({"messages": [{"role": 3, "content": "hi"}]}, '"role" of a message is not text'),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, '"content" of a message is not text'),
    ],
)
def test_rows_out_of_shape_say_what_is_missing(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        schema("chat_messages").messages(row)


@pytest.mark.parametrize("row", [{"instruction": "x"}, {"output": "x"}, {"instruction": "x", "output": 3}])
def test_instruction_rows_out_of_shape_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"(instruction|output)"):
        schema("instruction_output").messages(row)


# ----------------------------------------------------------------------------------------------------- cleaning


def test_cleaning_tidies_and_says_so() -> None:
    rough = turns(("system", " "), ("user", "\nHi\r\nyou "), ("assistant", "Ho\r"), ("user", "Bye"))
    assert clean(rough) == (turns(("user", "Hi\nyou"), ("assistant", "Ho")), {TRIMMED, EMPTY_SYSTEM, UNANSWERED})
    tidy = turns(("system", "Be kind."), ("user", "a\n\n  b"), ("assistant", "c"))
    assert clean(tidy) == (tidy, set())


@pytest.mark.parametrize(
    "messages",
    [
        [],
        turns(("user", "Hi")),
        turns(("user", "Hi"), ("assistant", " \n")),
        turns(("user", ""), ("assistant", "Ho")),
        turns(("assistant", "Ho"), ("user", "Hi"), ("assistant", "Ho")),
        turns(("user", "Hi"), ("assistant", "nul \0")),
        turns(("user", "Hi"), ("tool", "x"), ("assistant", "Ho")),
    ],
)
def test_conversations_without_anything_to_train_are_refused(messages: list[Message]) -> None:
    with pytest.raises(BadInput):
        clean(messages)


def test_a_conversation_is_known_by_its_turns_not_their_sum() -> None:
    different = [
        turns(("user", "ab"), ("assistant", "c")),
        turns(("user", "a"), ("assistant", "bc")),
        turns(("system", "ab"), ("assistant", "c")),
        turns(("user", "ab"), ("user", ""), ("assistant", "c")),
        turns(("user", 'ab"], ["assistant", "c')),
    ]
    assert len({digest(messages) for messages in different}) == len(different)
    assert digest(different[0]) == digest(turns(("user", "ab"), ("assistant", "c")))
    assert {len(digest(messages)) for messages in different} == {16}


# -------------------------------------------------------------------------------------------------------- split


def names(count: int) -> list[bytes]:
    return [digest(turns(("user", str(number)))) for number in range(count)]


def test_the_split_follows_from_seed_and_content_alone() -> None:
    digests, shares = names(1000), SplitSection()
    first = assign(digests, shares, seed=42)
    assert np.array_equal(first, assign(digests, shares, seed=42))
    assert not np.array_equal(first, assign(digests, shares, seed=43))
    turned = assign(digests[::-1], shares, seed=42)
    assert np.array_equal(first, turned[::-1]), "the order of the file does not matter"
    assert [int((first == split).sum()) for split in range(3)] == [800, 100, 100]


def test_one_more_row_moves_few_others() -> None:
    before, after = assign(names(1000), SplitSection(), 42), assign(names(1001), SplitSection(), 42)
    assert (before != after[:1000]).sum() <= 2


@pytest.mark.parametrize(
    ("rows", "shares", "expected"),
    [
        (12, (0.8, 0.1, 0.1), (1, 1)),
        (1, (0.8, 0.1, 0.1), (0, 0)),
        (2, (0.8, 0.1, 0.1), (1, 0)),
        (3, (0.8, 0.1, 0.1), (1, 1)),
        (3, (0.02, 0.49, 0.49), (1, 1)),
        (10, (0.02, 0.49, 0.49), (5, 4)),
        (100, (1, 0, 0), (0, 0)),
        (3, (0.99, 0, 0.01), (0, 1)),
        (1000, (0.8, 0.15, 0.05), (150, 50)),
    ],
)
def test_small_sets_keep_a_row_to_train_on_then_one_for_val_then_test(
    rows: int, shares: tuple[float, float, float], expected: tuple[int, int]
) -> None:
    section = SplitSection(train=shares[0], val=shares[1], test=shares[2])
    assert held_out(rows, section) == expected


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 500), val=st.floats(0, 0.49), test=st.floats(0, 0.49))
def test_there_is_always_a_row_to_train_on(rows: int, val: float, test: float) -> None:
    taken = held_out(rows, SplitSection(train=1 - val - test, val=val, test=test))
    assert min(taken) >= 0 and sum(taken) < rows


# ------------------------------------------------------------------------------------------------------ windows


@settings(max_examples=300, deadline=None)
@given(length=st.integers(1, 200), longest=st.integers(2, 50), data=st.data())
def test_windows_hold_every_trained_token_once_with_context_before_it(length: int, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest - 1))
    ids = list(range(1000, 1000 + length))
    trained = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    labels = [number if on and place else NOT_TRAINED for place, (number, on) in enumerate(zip(ids, trained, strict=True))]
    arrays = (np.array(column, dtype=np.int32) for column in (ids, labels))
    pieces = [(piece.tolist(), its_labels.tolist()) for piece, its_labels in windows(*arrays, longest, overlap)]
    once = [label for _ids, piece in pieces for label in piece if label != NOT_TRAINED]
    assert once == [label for label in labels if label != NOT_TRAINED]
    for piece_ids, piece_labels in pieces:
        assert 1 <= len(piece_ids) == len(piece_labels) <= longest
        assert piece_labels[0] == NOT_TRAINED, "nothing predicts the first token of a row"
        assert all(label in (number, NOT_TRAINED) for number, label in zip(piece_ids, piece_labels, strict=True))
    for (before, _), (after, _labels) in itertools.pairwise(pieces):
        assert before[-max(1, overlap) :] == after[: max(1, overlap)]


# -------------------------------------------------------------------------------------------------------- tally


def test_a_tally_counts_all_and_names_the_first_lines() -> None:
    tally = Tally()
    for line in range(1, 9):
        tally.add("odd" if line % 2 else "late", line)
    tally.add("odd", 100)
    assert tally.in_words() == ["5 rows: odd (lines 1, 3, 5, 7, 100)", "4 rows: late (lines 2, 4, 6, 8)"]
    tally.add("odd", 101)
    assert tally.in_words()[0] == "6 rows: odd (lines 1, 3, 5, 7, 100, …)"
    assert tally.total == 10


def test_a_tally_of_a_million_different_reasons_stays_small() -> None:
    tally = Tally()
    for line in range(10_000):
        tally.add(f"reason {line}", line)
    assert len(tally.to_json()) < 50 and tally.total == 10_000
