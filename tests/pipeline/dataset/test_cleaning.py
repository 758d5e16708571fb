"""Conversations are tidied, and refused where nothing in them can be trained."""

from __future__ import annotations

import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset.cleaning import EMPTY_SYSTEM, TRIMMED, UNANSWERED, clean, digest
from pipeline.tokenization.messages import Message
from tests.pipeline.dataset.turns import turns


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
        turns(("user", "Hi"), ("assistant", "nul \0")),
        turns(("user", "Hi"), ("ghost", "x"), ("assistant", "Ho")),
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
    assert {len(digest(messages)) for messages in different} == {24}
