"""A sweep makes the runs a person means: every combination, each different, each named."""

from __future__ import annotations

import pytest

from pipeline.common.errors import BadInput
from pipeline.config import sweep
from pipeline.config.schema import Config


def made(*texts: str, base: Config | None = None) -> list[sweep.Point]:
    return sweep.points(base or Config(project="mine"), sweep.assignments(texts), "mine.json")


def test_every_combination_is_a_run_with_the_values_in_it_and_a_project_named_after_them() -> None:
    found = made("train.lr=1e-4,2e-4", "train.lora.r=8,16", "train.epochs=3")
    assert [(each.config.train.lr, each.config.train.lora.r) for each in found] == [(1e-4, 8), (1e-4, 16), (2e-4, 8), (2e-4, 16)]
    assert all(each.config.train.epochs == 3 for each in found)
    assert [each.config.project for each in found] == ["mine-lr1e-4-r8", "mine-lr1e-4-r16", "mine-lr2e-4-r8", "mine-lr2e-4-r16"]
    assert found[0].differs == (("train.lr", "1e-4"), ("train.lora.r", "8")), "what all share is no difference"


def test_one_run_and_projects_that_were_named_keep_their_names() -> None:
    assert [each.config.project for each in made()] == ["mine"]
    assert [each.config.project for each in made("train.lr=1e-4")] == ["mine"]
    assert [each.config.project for each in made("project=a,b")] == ["a", "b"]


@pytest.mark.parametrize("base", [Config(project="m"), Config(project="m" * 60)])
def test_names_that_a_project_cannot_have_are_told_apart_all_the_same(base: Config) -> None:
    found = made("data.raw_path=a/b.jsonl,a_b.jsonl", base=base)
    names = {each.config.project for each in found}
    assert len(names) == 2
    assert names == {each.config.project for each in made("data.raw_path=a/b.jsonl,a_b.jsonl", base=base)}
    for each in found:
        Config.model_validate(each.config.to_json())


def test_a_value_may_have_commas_of_its_own() -> None:
    (first, second) = made("data.split=0.8,0.1,0.1;0.9,0.05,0.05")
    assert (first.config.data.split.train, second.config.data.split.train) == (0.8, 0.9)
    (one,) = made('data.raw_path="a,b.jsonl"')
    assert one.config.data.raw_path == "a,b.jsonl"


def test_values_that_fit_only_in_the_other_order_are_taken() -> None:
    base = Config.model_validate({"data": {"max_seq_len": 2048, "window_overlap": 1024}})
    (one,) = made("data.max_seq_len=64", "data.window_overlap=8", base=base)
    assert (one.config.data.max_seq_len, one.config.data.window_overlap) == (64, 8)


def test_every_value_that_is_not_allowed_is_told_at_once() -> None:
    with pytest.raises(BadInput) as raised:
        made("train.lr=1e-4,-2", "train.lora.r=8,0")
    assert "3 of 4 runs can't be made" in raised.value.message
    assert "train.lr" in raised.value.message and "train.lora.r" in raised.value.message


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["train.lr"], "must be KEY=VALUE"),
        (["train.lr=1e-4,"], "a value is empty"),
        (["train.rate=1"], "unknown key"),
        (["train.lr=1e-4", "train.lr=2e-4"], "given twice"),
        (["train.lr=1e-4,0.0001"], "are the same run"),
        (["seed=" + ",".join(map(str, range(65)))], "at most 64"),
        (["seed=" + ",".join(map(str, range(9))), "train.epochs=1,2,3,4,5,6,7,8"], "makes 72 runs (9 × 8)"),
    ],
)
def test_what_makes_no_sweep_is_refused_in_words(texts: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(").replace(")", r"\)")):
        made(*texts)
