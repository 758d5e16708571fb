"""Which held-out rows choose the checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pipeline.planning.plan import Plan
from pipeline.training import train
from pipeline.training.held_out import drawn
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for


@pytest.mark.parametrize(("count", "most"), [(1600, 256), (257, 256), (1000, 3), (10, 10), (4, 256), (1, 1)])
def test_rows_are_spread_over_all_of_them_whatever_their_order(count: int, most: int) -> None:
    chosen = drawn(count, most, 42)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, most)
    assert np.array_equal(chosen, drawn(count, most, 42)) and (np.diff(chosen) > 0).all()
    for source in (chosen < count // 4, chosen >= count - count // 3):  # the first and the last of sources in a row
        assert abs(source.sum() - len(chosen) * (source[0] * (count // 4) + source[-1] * (count // 3)) / count) <= 1


def test_another_seed_draws_others() -> None:
    assert not np.array_equal(drawn(1600, 256, 42), drawn(1600, 256, 43))


def judged(folder: Path, model: Path, plan_rule: str) -> list[list[int]]:
    """The documents of a run that are judged while it trains."""
    data = MadeUpData(val=40)
    config = config_for(model, eval__rows_while_training=8)
    plan = asdict(plan_for(config, data, held_out=plan_rule))
    if not plan_rule:
        del plan["held_out"]
    run = TinyRun(folder, config)
    held_out = train._held_out(run.ctx, data, Plan.from_json(plan))  # type: ignore[arg-type]
    assert held_out is not None
    return [each.ids.tolist() for row in range(len(held_out.rows)) for each in held_out.rows[row]]


def test_a_run_that_began_with_the_first_rows_goes_on_with_them(tmp_path: Path, tiny_model: Path) -> None:
    documents = MadeUpData(val=40).dataset("val")["input_ids"]
    assert sorted(judged(tmp_path / "older", tiny_model, "")) == sorted(documents[:8])
    now = sorted(judged(tmp_path / "now", tiny_model, "drawn"))
    assert now == sorted(documents[number] for number in drawn(40, 8, 42)) != sorted(documents[:8])
