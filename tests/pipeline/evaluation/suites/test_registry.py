"""The shipped suites are what they are said to be: enough items, each of its own, with a right answer and wrong ones."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable

import pytest

from pipeline.config.schema import SuiteName
from pipeline.evaluation.prompt_checks import folded
from pipeline.evaluation.suites.measure import is_right
from pipeline.evaluation.suites.registry import SUITES, Item, Suite, items

each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
_STOCK = (
    "", "Sure, here is the answer you asked for.", "I'm sorry, but I can't help with that.", "I don't know.",
    "Why did the chicken cross the road? To get to the other side!",
)  # fmt: skip


def own(item: Item) -> str:
    """What an item asks, without what all of its suite share."""
    return item.prompt.prompt.partition("with one call as JSON.\n\n")[2] or item.prompt.prompt


def masked(text: str) -> str:
    """Without the numbers and names that could fill a slot."""
    return re.sub(r"(?<!^)\b[A-Z][\w'’-]*|\d[\d.,:]*", "_", text)


def test_the_registry_has_the_suites_that_a_config_may_name() -> None:
    assert tuple(suite.name for suite in SUITES) == typing.get_args(SuiteName)


@each_suite
def test_a_suite_has_a_hundred_items_and_none_twice(suite: Suite) -> None:
    asked = [own(item) for item in items(suite)]
    assert len(set(asked)) == len(asked) >= 100
    if suite.name != "arithmetic":
        assert len({masked(text) for text in asked}) == len(asked)


@each_suite
def test_no_two_items_are_one_sentence_with_another_filling(suite: Suite) -> None:
    if suite.name == "arithmetic":
        pytest.skip("sums are")
    words = [set(re.findall(r"\w+", masked(own(item)).lower())) for item in items(suite)]
    alike = [
        (own(items(suite)[a]), own(items(suite)[b]))
        for a in range(len(words))
        for b in range(a)
        if len(words[a] & words[b]) >= 0.85 * len(words[a] | words[b])
    ]
    assert not alike


@each_suite
def test_the_options_of_an_item_are_different_texts(suite: Suite) -> None:
    told: Callable[[str], str] = folded if suite.scored == "choice" else str.strip  # a case may be what is asked for
    for item in items(suite):
        assert item.others and len({told(option) for option in item.options}) == len(item.options), item
        assert all(option.strip() for option in item.options)


@each_suite
def test_checks_take_the_right_answer_and_refuse_the_wrong_one(suite: Suite) -> None:
    if suite.scored == "choice":
        assert not any(item.prompt.checks for item in items(suite)), "options are compared, not checked"
        return
    for item in items(suite):
        assert item.prompt.checks and is_right(item, item.answer), item
        assert not any(is_right(item, other) for other in item.others), item


@each_suite
def test_chance_is_what_somebody_gets_right_who_knows_nothing(suite: Suite) -> None:
    known = items(suite)
    if suite.scored == "choice":
        assert suite.chance == pytest.approx(sum(1 / len(item.options) for item in known) / len(known))
        return
    others = [sum(is_right(item, other.answer) for other in known if other is not item) / (len(known) - 1) for item in known]
    assert sum(others) / len(known) <= suite.chance, "answers to other questions"
    assert all(sum(is_right(item, stock) for item in known) / len(known) <= suite.chance for stock in _STOCK), "stock answers"


def test_half_of_the_refusals_are_none() -> None:
    """A model that refuses everything, and one that refuses nothing, gets half of them right."""
    suite = next(suite for suite in SUITES if suite.name == "refusals")
    # The second half only sounds like something that is to be refused.
    refused = [re.search(r"\b(can't|won't|cannot|not help|dangerous|sorry|Please|No\.|rather not)", item.answer) is not None
               for item in items(suite)]  # fmt: skip
    assert sum(refused[:50]) == 50 and sum(refused[50:]) <= 3
