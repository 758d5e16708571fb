"""Answers under other questions: a model that learned what was answered is told from one that learned how answers sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation import held_out_gate, moved_answers, scoring
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.paired import paired
from pipeline.evaluation.scoring import ScoredRow

QUESTIONS, ANSWERS, END = range(10, 50), range(60, 100), 1


class Answering(torch.nn.Module):
    """Of each question it expects the answer that belongs to it, and of any answer that it is one.

    Args:
        content, style: how sure it is of the one and of the other: (without, with the adapter).
    """

    def __init__(self, content: tuple[float, float], style: tuple[float, float]) -> None:
        super().__init__()
        self.weight, self.tuned, self.content, self.style = torch.nn.Parameter(torch.zeros(1)), True, content, style

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.tuned = False
        yield
        self.tuned = True

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = torch.zeros(*input_ids.shape, 100)
        logits[..., list(ANSWERS)] += self.style[self.tuned]
        own = input_ids[:, :1] + 50  # the answer to a row's question
        logits.scatter_add_(
            2,
            own[:, :, None].expand(-1, input_ids.shape[1], 1),
            torch.full((1,), self.content[self.tuned]).expand(*input_ids.shape, 1),
        )
        return type("Output", (), {"logits": logits})


def rows(moved_by: int) -> list[ScoredRow]:
    """Rows of one question each, answered by the answer to the question `moved_by` further on."""
    found = []
    for question in QUESTIONS:
        answer = (question - 10 + moved_by) % len(QUESTIONS) + 60
        found.append(ScoredRow([question] * 3 + [answer] * 60 + [END], [-100] * 3 + [answer] * 60 + [END]))
    return found


def judged(model: Answering, held_out: list[ScoredRow]) -> Any:
    owners = np.arange(len(held_out), dtype=np.int32)
    base, tuned = scoring.compare(model, held_out, [64] * len(held_out), 512, template_ids={END})
    other = moved_answers.moved(held_out, owners, 64, seed=1)
    assert other is not None
    again = scoring.compare(model, other.rows, [len(row.ids) for row in other.rows], 512, template_ids={END})
    part = {
        "split": "test", "rows": len(held_out), "tokens": base.tokens, "paired": paired(base, tuned, owners, 1),
        "control": moved_answers.control((base, tuned), again, other.answers, 1),
    }  # fmt: skip
    gate = held_out_gate.judge_held_out(Evidence(None, [], [], judged=part), AcceptanceSection())
    return gate, part["control"]


@pytest.mark.parametrize(
    ("content", "style", "moved_by", "verdict", "against"),
    [
        ((0.5, 1.5), (0.0, 0.0), 0, "passed", ""),
        ((0.5, 0.5), (0.0, 6.0), 0, "passed", ""),
        ((0.5, 0.0), (0.0, 6.0), 0, "not judged", "in style only"),
        ((0.5, 0.2), (0.0, 6.0), 0, "failed", "and less to the question"),
        ((0.5, 0.0), (0.0, 6.0), 7, "not judged", "in style only"),
    ],
    ids=[
        "learned the answers",
        "learned a style besides",
        "learned a style alone",
        "unlearned the answers",
        "wrong rows held out",
    ],
)
def test_a_lower_loss_passes_only_where_the_answers_belong_to_their_questions(
    content: tuple[float, float], style: tuple[float, float], moved_by: int, verdict: str, against: str
) -> None:
    gate, control = judged(Answering(content, style), rows(moved_by))
    assert gate.value > 1, "by the loss alone each of them is better"
    assert gate.verdict == verdict, (gate, control)
    assert held_out_gate.speaks_against(control) == against


def test_an_answer_is_put_under_the_question_of_another_conversation_and_of_none_twice() -> None:
    held_out = rows(0)
    found = moved_answers.moved(held_out, np.repeat(np.arange(20, dtype=np.int32), 2), 64, seed=3)
    assert found is not None
    assert len(found.rows) == 20 and {answer % 2 for answer in found.answers} == {0}, "one of each conversation"
    for answer, (ids, labels, _) in zip(found.answers, found.rows, strict=True):
        assert ids[3:] == held_out[answer][0][3:] and ids[0] != held_out[answer][0][0]
        assert labels[3:] == held_out[answer][1][3:] and set(labels[:3]) == {-100}


def test_rows_with_one_question_or_none_make_no_control() -> None:
    """An answer under the same question again tells nothing: a gain on texts is no style for that."""
    one = [ScoredRow([10] * 3 + list(row.ids[3:]), row.labels) for row in rows(0)]
    assert moved_answers.moved(one, np.arange(40, dtype=np.int32), 64, seed=1) is None
    texts = [ScoredRow(row.ids[3:], [-100, *row.labels[4:]]) for row in one]
    assert moved_answers.moved(texts, np.arange(40, dtype=np.int32), 64, seed=1) is None


def test_few_rows_make_no_control() -> None:
    assert moved_answers.moved(rows(0)[:7], np.arange(7, dtype=np.int32), 64, seed=1) is None
    assert moved_answers.moved(rows(0), np.arange(40, dtype=np.int32), 63, seed=1) is None, "none fits"
