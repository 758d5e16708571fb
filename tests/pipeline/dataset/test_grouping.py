"""What belongs together is found, and no group is in two splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import Config, SplitSection
from pipeline.dataset.cleaning import digest
from pipeline.dataset.grouping import ASKED, NEAR, ORIGIN, QUESTION, Grouping, by_question, most_of
from pipeline.dataset.near_duplicates import FEWEST_TOKENS
from pipeline.dataset.origin import origin_of
from pipeline.dataset.split import assign, divided, draw
from pipeline.tokenization.messages import Conversation
from tests.pipeline.dataset.turns import turns

Row = tuple[str, ...]
TREES: list[Row] = [
    (f"question {tree}", f"first answer {tree}", f"follow-up {tree}.{path}", f"second answer {tree}.{path}")
    for tree in range(200)
    for path in range(4)
]


def conversation(said: Row) -> Conversation:
    return Conversation(tuple(turns(*zip(("user", "assistant") * len(said), said, strict=False))))


def grouping_of(
    rows: list[Row], origins: list[str] | None = None, tokens: list[Any] | None = None
) -> tuple[list[bytes], Grouping]:
    grouping = Grouping()
    for number, row in enumerate(rows):
        trained = [np.array(tokens[number], dtype=np.int32)] if tokens else []
        grouping.add(conversation(row), origins[number] if origins else "", trained)
    return [digest(conversation(row)) for row in rows], grouping


def together(groups: Any, *rows: int) -> bool:
    return len({int(groups[row]) for row in rows}) == 1


def test_no_answer_of_a_tree_is_trained_and_held_out() -> None:
    names, grouping = grouping_of(TREES)
    split_of, grouped, _ = divided(names, grouping.groups(names), Config())
    trained = {said for row, split in zip(TREES, split_of, strict=True) if split == 0 for said in row}
    held = [row for row, split in zip(TREES, split_of, strict=True) if split]
    assert len(held) >= 80 and not any(said in trained for row in held for said in row)
    assert (grouped.groups, grouped.rows, grouped.by) == (200, 800, {QUESTION: 800})
    assert 0 < grouped.moved < 400, "only those that came apart"
    assert np.array_equal(split_of, assign(names, SplitSection(), 42)), "the names alone tell the first question"


def test_rows_that_are_alone_stay_where_they_were_drawn() -> None:
    rows: list[Row] = [(f"question {number}", "yes") for number in range(500)]
    names, grouping = grouping_of(rows)
    split_of, grouped, _ = divided(names, grouping.groups(names), Config())
    assert np.array_equal(split_of, draw(names, SplitSection(), 42)[0])
    assert (grouped.groups, grouped.moved, grouped.in_words()) == (0, 0, [])


def test_only_rows_of_groups_that_came_apart_move() -> None:
    names, grouping = grouping_of([*TREES[:40], *((f"alone {number}", "yes") for number in range(400))])
    split_of, grouped, _ = divided(names, grouping.groups(names), Config())
    moved = np.flatnonzero(split_of != draw(names, SplitSection(), 42)[0])
    assert 0 < len(moved) == grouped.moved and moved.max() < 40


def test_groups_are_the_same_in_any_order_of_the_file() -> None:
    draw_ = np.random.default_rng(0)
    copied = draw_.integers(0, 1000, 60)
    tokens = [*([*copied, each] for each in range(20)), *(draw_.integers(0, 1000, 61) for _ in range(180))]
    rows: list[Row] = [(f"question {number // 2}", f"answer {number}") for number in range(200)]
    names, grouping = grouping_of(rows, None, tokens)
    other_names, other = grouping_of(rows[::-1], None, tokens[::-1])
    here, there = divided(names, grouping.groups(names), Config()), divided(other_names, other.groups(other_names), Config())
    assert np.array_equal(here[0], there[0][::-1]) and here[1] == there[1]
    assert here[1].by[NEAR] == 20


@pytest.mark.parametrize("again", ["WHAT is\n it", "what is it?", "  What is it ?!", "“What is it”"])
def test_a_question_is_the_same_whatever_its_case_its_white_space_and_the_punctuation_around_it(again: str) -> None:
    groups = by_question(
        [digest(turns(("user", said))) for said in ("What is it", again, "What is it not?", "+", "-", "what", "a")]
    )
    assert together(groups.of, 0, 1)
    assert len(set(groups.of.tolist())) == 6


def test_the_system_message_makes_no_group() -> None:
    rows = [turns(("system", "Be kind."), ("user", str(number)), ("assistant", "Yes.")) for number in range(20)]
    assert not by_question([digest(row) for row in rows]).by


def test_parts_of_one_conversation_or_document_belong_together() -> None:
    rows: list[Row] = [(f"question {number}", "yes") for number in range(100)]
    names, grouping = grouping_of(rows, [f"document {number // 3}" if number < 30 else "" for number in range(100)])
    groups = grouping.groups(names)
    assert together(groups.of, 0, 1, 2) and not together(groups.of, 2, 3) and not together(groups.of, 50, 51)
    assert groups.by == {ORIGIN: 30}


@pytest.mark.parametrize(
    ("row", "origin"),
    [
        ({"message_tree_id": "a-b"}, "message_tree_id a-b"),
        ({"doc_id": 17, "id": "x"}, "doc_id 17"),
        ({"id": "QWJhYvA_14"}, "id QWJhYvA"),
        ({"id": "science_14"}, ""),  # where it was taken from, as half of all rows were
        ({"id": "row_14"}, ""),
        ({"conversation_id": None, "doc_id": ["x"]}, ""),
    ],
)
def test_where_a_row_says_it_comes_from(row: dict[str, Any], origin: str) -> None:
    assert origin_of(row) == origin


def test_nearly_the_same_answers_belong_together_and_short_ones_do_not() -> None:
    draw_ = np.random.default_rng(0)
    answer, other = draw_.integers(0, 40_000, 200), draw_.integers(0, 40_000, 200)
    one_word = answer.copy()
    one_word[100] = 7
    half = np.concatenate([answer[:100], other[:100]])
    short = answer[: FEWEST_TOKENS - 1]
    tokens = [answer, one_word, half, other, short, short, *(draw_.integers(0, 40_000, 200) for _ in range(40))]
    names, grouping = grouping_of([(f"question {number}", f"answer {number}") for number in range(46)], None, tokens)
    groups = grouping.groups(names)
    assert together(groups.of, 0, 1)
    assert len(set(groups.of.tolist())) == 45
    assert groups.by == {NEAR: 2}


def test_nearly_the_same_question_belongs_together_whatever_is_answered() -> None:
    asked = [
        "Hi, I need help with the tip for my bill. It is $50 and I want to give a 15% tip.",
        "Hello, I need help with the tip for my bill. It is $50 and I want to give 15% tip.",
        "Why does the moon always show the same side of itself to those who look at it from the earth?",
        "What is the capital of France?",
        "What is the capital of Spain?",
    ]
    rows: list[Row] = [(question, f"answer {number}") for number, question in enumerate(asked)]
    rows += [(f"question {number}", f"other answer {number}") for number in range(40)]
    names, grouping = grouping_of(rows)
    groups = grouping.groups(names)
    assert together(groups.of, 0, 1) and groups.by == {ASKED: 2}
    assert len(set(groups.of.tolist())) == 44


def test_questions_after_one_pattern_are_told_apart_and_that_is_said() -> None:
    pattern = "Read this review of a place to eat and say in one word whether the guest liked it or not: "
    rows: list[Row] = [(f"{pattern}dish {number}.", "yes") for number in range(60)]
    rows += [(f"question {number}", "yes") for number in range(600)]
    names, grouping = grouping_of(rows)
    _, grouped, _ = divided(names, grouping.groups(names), Config())
    assert grouped.groups == 0 and grouped.too_large == {ASKED: 60}
    assert "60 rows begin with nearly the same question as many others" in grouped.doubts()[0]


def test_one_instruction_for_every_row_is_told_apart_by_what_follows_and_that_is_said() -> None:
    rows: list[Row] = [("Rate this.", "Which one?", f"review {number // 2}", f"answer {number}") for number in range(400)]
    names, grouping = grouping_of(rows)
    split_of, grouped, _ = divided(names, grouping.groups(names), Config())
    assert grouped.too_large == {QUESTION: 400}
    assert "400 rows begin with a question that more than a fifth" in grouped.doubts()[0]
    assert min((split_of == split).sum() for split in (1, 2)) >= 20
    assert all(split_of[number] == split_of[number + 1] for number in range(0, 400, 2)), "the review tells which belong together"


def test_answers_after_one_pattern_are_divided_and_copies_among_them_are_not() -> None:
    draw_ = np.random.default_rng(0)
    pattern = draw_.integers(0, 40_000, 100)
    written = [np.concatenate([pattern, draw_.integers(0, 40_000, 10)]) for _ in range(100)]
    copy = written[0].copy()
    copy[-1] = 7
    names, grouping = grouping_of([(f"question {number}", f"a {number}") for number in range(101)], None, [*written, copy])
    split_of, grouped, _ = divided(names, grouping.groups(names), Config())
    assert grouped.too_large == {NEAR: 101}
    assert [int((split_of == split).sum()) for split in (1, 2)] == pytest.approx([10, 10], abs=5)
    assert split_of[0] == split_of[100]


@pytest.mark.parametrize("sizes", [[12], [11, 1], [6, 6], [200] * 5, [90] * 10 + [100], [1] * 50 + [10] * 5, [2] * 3, [1, 2]])
def test_no_split_is_left_empty_for_the_sake_of_groups(sizes: list[int]) -> None:
    rows: list[Row] = [(f"question {group}", f"answer {each}") for group, size in enumerate(sizes) for each in range(size)]
    names, grouping = grouping_of(rows)
    split_of, _, _ = divided(names, grouping.groups(names), Config())
    count = [int((split_of == split).sum()) for split in range(3)]
    possible = min(3, len(rows)) if max(sizes) > most_of(len(rows)) else min(3, len(sizes))
    assert sum(each > 0 for each in count) == possible
    assert count[0] == max(count)


def test_large_groups_change_the_shares_little() -> None:
    sizes = np.random.default_rng(0).zipf(1.6, 3000).clip(max=60)
    rows: list[Row] = [(f"question {group}", f"answer {each}") for group, size in enumerate(sizes) for each in range(size)]
    names = [digest(conversation(row)) for row in rows]
    for seed in range(5):
        split_of = assign(names, SplitSection(), seed)
        for split in (1, 2):
            assert 0.05 <= (split_of == split).mean() <= 0.15
