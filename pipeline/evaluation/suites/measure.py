"""The items of a suite answered by base and tuned model, in the same batches on one loaded model.

In the chat template, as a person would ask. Options are compared by their log-likelihood as the assistant's answer, divided by
their bytes, so that longer ones are at no disadvantage; greedy answers by their checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.prompt_checks import BY_KEY
from pipeline.evaluation.scoring import TEMPLATE, Score, ScoredRow, compare
from pipeline.evaluation.suites.registry import Item, Suite
from pipeline.modeling.generate import generate_batch, user_prompt
from pipeline.tokenization.messages import Message

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_TOGETHER = 16  # prompts answered by the base model, then by the tuned one: between them a person may stop


class Sides(NamedTuple):
    """Of each item: whether base and tuned model got it right, (items,) bool, and what they answered."""

    base: NDArray[np.bool_]
    tuned: NDArray[np.bool_]
    base_answers: list[str]
    tuned_answers: list[str]


def measured(
    suite: Suite,
    items: Sequence[Item],
    model: Any,
    tokenizer: ChatTokenizer,
    most_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Sides:
    """Both models on every item.

    Args:
        model: a `PeftModel`.
        most_tokens: of a batch of options, padding included; a longer one stands alone.
        progress: called with how many items are done, between batches; may raise to end it.

    Raises:
        OutOfMemory: one option or one answer does not fit alone.
    """
    if suite.scored == "choice":
        return _chosen(items, model, tokenizer, most_tokens, progress)
    return _answered(items, model, tokenizer, suite.longest, progress)


# ------------------------------------------------------------------------------------------------------ options


def _chosen(
    items: Sequence[Item], model: Any, tokenizer: ChatTokenizer, most_tokens: int, progress: Callable[[int], None]
) -> Sides:
    rows = [_row(tokenizer, item.prompt.prompt, option) for item in items for option in item.options]
    lengths = [len(row.ids) for row in rows]
    each = len(rows) / len(items)
    scores = compare(model, rows, lengths, most_tokens, lambda done: progress(int(done / each)), tokenizer.template_ids)
    sizes = np.array([len(option.encode()) for item in items for option in item.options])
    ends = list(accumulate(len(item.options) for item in items))[:-1]
    likely = [np.split(_per_byte(score, sizes), ends) for score in scores]  # of each item its options', nats a byte
    base, tuned = ([_is_first(options) for options in side] for side in likely)
    return Sides(np.array(base), np.array(tuned), _likeliest(items, likely[0]), _likeliest(items, likely[1]))


def _row(tokenizer: ChatTokenizer, prompt: str, option: str) -> ScoredRow:
    """The option as the assistant's answer."""
    encoded = tokenizer.encode_conversation([Message(role="user", content=prompt), Message(role="assistant", content=option)])[-1]
    return ScoredRow(encoded.ids, encoded.labels)


def _per_byte(score: Score, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-likelihood of each option's text a byte; what the template writes after it has no part in it."""
    return np.asarray(-score.losses[:, :TEMPLATE].sum(axis=1) / sizes)


def _likeliest(items: Sequence[Item], likely: Sequence[NDArray[np.float64]]) -> list[str]:
    return [item.options[int(np.argmax(options))] for item, options in zip(items, likely, strict=True)]


def _is_first(options: NDArray[np.float64]) -> bool:
    """Whether the right one is likelier than each of the others; what is no number is not."""
    return bool((options[0] > options[1:]).all())


# ------------------------------------------------------------------------------------------------------ answers


def _answered(
    items: Sequence[Item], model: Any, tokenizer: ChatTokenizer, longest: int, progress: Callable[[int], None]
) -> Sides:
    prompts = [user_prompt(tokenizer, item.prompt.prompt) for item in items]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))  # neighbours in length pad each other least
    base, tuned = [""] * len(items), [""] * len(items)
    for start in range(0, len(order), _TOGETHER):
        progress(start)
        batch = order[start : start + _TOGETHER]
        asked = [prompts[number] for number in batch]
        with model.disable_adapter():
            before = generate_batch(model, tokenizer, asked, longest)
        after = generate_batch(model, tokenizer, asked, longest)
        for number, one, other in zip(batch, before, after, strict=True):
            base[number], tuned[number] = one, other
    progress(len(items))
    return Sides(_marks(items, base), _marks(items, tuned), base, tuned)


def _marks(items: Sequence[Item], answers: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([is_right(item, answer) for item, answer in zip(items, answers, strict=True)])


def is_right(item: Item, answer: str) -> bool:
    """Whether an answer meets all that its item asks of it."""
    return not any(BY_KEY[key].fault(value, answer) for key, value in item.prompt.checks)
