"""Memory that runs out while rows are scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pipeline.common.errors import EnvironmentFault
from pipeline.evaluation import scoring


class Adapted(torch.nn.Module):
    """A model that knows its next token by heart, and worse without its adapter; scoring asks no more of one."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.weight, self.tuned, self.most, self.calls = torch.nn.Parameter(torch.zeros(1)), True, most, list[int]()

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.tuned = False
        yield
        self.tuned = True

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.calls.append(input_ids.numel())
        if input_ids.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits = torch.nn.functional.one_hot((input_ids + 1) % 11, 11).double() * (2.0 if self.tuned else 1.0)
        return type("Output", (), {"logits": logits})


ROWS = [scoring.ScoredRow(*[[n % 11 for n in range(length)]] * 2) for length in (9, 4, 7, 6, 6, 3)]
LENGTHS = [len(row.ids) for row in ROWS]


def test_fewer_rows_at_once_score_the_same_and_it_is_learned() -> None:
    roomy, short = Adapted(10**9), Adapted(14)
    wanted = scoring.compare(roomy, ROWS, LENGTHS, 32)
    done: list[int] = []
    found = scoring.compare(short, ROWS, LENGTHS, 32, done.append)
    for one, other in zip(found, wanted, strict=True):
        assert (one.tokens, one.correct) == (other.tokens, other.correct)
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-9)
    assert wanted[0].loss > wanted[1].loss
    assert done[-1] == len(ROWS) and sum(call > 14 for call in short.calls) == 1


def test_a_row_that_can_not_be_scored_alone_names_what_to_change() -> None:
    with pytest.raises(EnvironmentFault, match="one conversation of 9 tokens") as caught:
        scoring.compare(Adapted(8), ROWS, LENGTHS, 32)
    assert caught.value.exit_code == 4 and "compute.gpu" in caught.value.hint
