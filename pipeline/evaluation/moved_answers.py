"""The control of the held-out loss: the same answers under other questions.

Loss also falls where a model has learned how answers sound and nothing of what they answer. Where the questions matter, an answer
is likelier under its own question than under another's; a model trained on answers under other questions no longer expects that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.evaluation.scoring import FIRST_ANSWER, Score, ScoredRow, ScoredRows, first_answer
from pipeline.evaluation.statistics import LEVEL, resampled
from pipeline.tokenization.messages import NOT_TRAINED

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PAIRS = 128
LEAST_PAIRS = 8


class Moved(NamedTuple):
    """Rows with the first answer of `answers[i]` after what stands before the first answer of another row."""

    answers: list[int]
    rows: list[ScoredRow]


def moved(rows: ScoredRows, owners: NDArray[np.int32], longest: int, seed: int) -> Moved | None:
    """Each first answer under the question of another conversation; None where there are too few, or all have one question.

    Args:
        owners: of each row, the number of its conversation: a conversation gives one answer.
        longest: most tokens of a row; longer pairs are left out.
    """
    firsts = np.unique(owners, return_index=True)[1]
    chosen = np.random.default_rng(seed).permutation(firsts)[:MOST_PAIRS].tolist()
    found = Moved([], [])
    for question, answer in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        joined = _joined(rows[question], rows[answer])
        if question != answer and len(joined.ids) <= longest and not _same_question(joined, rows[answer]):
            found.answers.append(answer)
            found.rows.append(joined)
    return found if len(found.rows) >= LEAST_PAIRS else None


def _same_question(joined: ScoredRow, answer: ScoredRow) -> bool:
    """Whether the other question is the same one, or there is none, so that nothing can be told by it: of a text all is answer
    but the first token, which nothing foretells."""
    start = first_answer(answer.labels)[0]
    return start <= 1 or list(joined.ids[: first_answer(joined.labels)[0]]) == list(answer.ids[:start])


def _joined(question: ScoredRow, answer: ScoredRow) -> ScoredRow:
    start, end = first_answer(answer.labels)
    before = list(question.ids[: first_answer(question.labels)[0]])
    weights = None if answer.weights is None else [0.0] * len(before) + list(answer.weights[start:end])
    labels = [NOT_TRAINED] * len(before) + list(answer.labels[start:end])
    return ScoredRow(before + list(answer.ids[start:end]), labels, weights)


def control(own: Sequence[Score], other: Sequence[Score], answers: Sequence[int], seed: int) -> dict[str, Any] | None:
    """What a report says of the control; None where a loss is no finite number.

    Args:
        own: base and tuned, of all rows.
        other: base and tuned, of the answers under other questions.
        answers: the rows they come from.

    Returns:
        `*_use`: how many nats a token an answer is likelier under its own question than under another's.
    """
    counts, weights = own[0].counts[list(answers), FIRST_ANSWER], own[0].weights[list(answers), FIRST_ANSWER]
    use = [
        there.losses[:, FIRST_ANSWER] - here.losses[list(answers), FIRST_ANSWER] for here, there in zip(own, other, strict=True)
    ]
    if not counts.sum() or not np.isfinite(use).all():
        return None
    base, tuned, change = (resampled(each, weights, seed) for each in (*use, use[1] - use[0]))
    return {
        "pairs": len(answers),
        "tokens": int(counts.sum()),
        "level": LEVEL,
        "base_use": base.estimate,
        "base_use_low": base.low,
        "tuned_use": tuned.estimate,
        "tuned_use_low": tuned.low,
        "use_change": change.estimate,
        "use_change_low": change.low,
        "use_change_high": change.high,
    }
