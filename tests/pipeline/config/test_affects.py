"""A setting goes into the fingerprints that it names, and what was made before is found by the fingerprint it was made under."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from pipeline.config import affects
from pipeline.config.affects import affected, in_order, settings_of
from pipeline.config.file import with_value
from pipeline.config.keys import every_key
from pipeline.config.schema import Config, Result, setting
from tests.pipeline.config.fingerprints import fingerprints, hold_files

# Another value than the default's, for every setting.
OTHER: dict[str, Any] = {
    "project": "other", "seed": 7,
    "model.repo": "Qwen/Qwen2.5-0.5B-Instruct", "model.revision": "abc123", "model.local_path": "models/qwen",
    "compute.gpu": "cpu", "compute.memory_limit_gib": 3.5,
    "data.source": "generated", "data.raw_path": "data/raw/mine.jsonl", "data.schema": "instruction_output",
    "data.template": "chatml", "data.thinking": "off",
    "data.sources": [{"path": "a.jsonl"}], "data.val_path": "val.jsonl", "data.test_path": "test.jsonl",
    "data.hub.repo": "tatsu-lab/alpaca", "data.hub.revision": "v1", "data.hub.subset": "main", "data.hub.split": "test",
    "data.processed_dir": "data/p", "data.max_seq_len": 512, "data.packing": False,
    "data.generate.rows": 20, "data.generate.topics": ["animals", "units"],
    "data.split.train": 0.6, "data.split.val": 0.3, "data.split.test": 0.3,
    "data.oasst.paths": "all", "data.oasst.languages": ["en"],
    "data.over_long": "drop", "data.window_overlap": 64, "data.columns": ["prompt=question"], "data.train_on": "last",
    "train.precision_mode": "lora_bf16", "train.lr": 0.001, "train.scheduler": "linear", "train.warmup_ratio": 0.1,
    "train.weight_decay": 0.01, "train.grad_clip": 0.5, "train.epochs": 2.5, "train.max_steps": 40,
    "train.gradient_checkpointing": True, "train.micro_batch": 2, "train.kernels": "plain", "train.attention": "sdpa",
    "train.deterministic": True, "train.tokens_per_step_target": 4096, "train.eval_every_steps": 5, "train.save_every_steps": 10,
    "train.lora.r": 8, "train.lora.alpha": 16, "train.lora.dropout": 0.0, "train.lora.target_modules": ["q_proj", "down_proj"],
    "train.lora.rslora": True, "train.lora.dora": True,
    "train.early_stopping.enabled": False, "train.early_stopping.patience": 2, "train.early_stopping.min_delta": 0.01,
    "eval.curated_prompts_path": "mine.jsonl", "eval.max_new_tokens": 64, "eval.temperature": 0.7, "eval.samples_per_eval": 0,
    "eval.rows_while_training": 32,
    "acceptance.min_val_improvement_pct": 2.0, "acceptance.jitter_threshold": 0.5, "acceptance.curated_threshold": 0.5,
    "acceptance.least_rows": 10, "acceptance.least_tokens": 100, "acceptance.moved_answers": False, "acceptance.jitter": "gate",
    "acceptance.forgetting": "gate", "eval.suites": ["facts", "lm-eval:arc_easy"], "eval.lm_eval_tasks": "tasks",
    "export.artifacts_dir": "out", "export.formats": ["peft_adapter", "merged"],
}  # fmt: skip
# The three shares of a split are 1 together.
_WITH: dict[str, dict[str, Any]] = {
    "data.split.train": {"data.split.test": 0.3}, "data.split.val": {"data.split.train": 0.6},
    "data.split.test": {"data.split.train": 0.6},
}  # fmt: skip


# Older than these; `GOLDEN` was made without.
LATER = (
    "data.thinking", "data.columns", "data.train_on", "train.lora.rslora", "train.lora.dora",
    "acceptance.least_rows", "acceptance.least_tokens",
    "acceptance.moved_answers", "acceptance.jitter", "acceptance.forgetting", "eval.suites", "eval.lm_eval_tasks",
    "data.hub.repo", "data.hub.revision", "data.hub.subset", "data.hub.split", "data.oasst.paths", "data.oasst.languages",
    "data.sources", "data.val_path", "data.test_path",
)  # fmt: skip
FOUR = ["q_proj", "k_proj", "v_proj", "o_proj"]  # the default then: a config that has them has the same results


def nested(values: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return document


_OLD = {name: value for name, value in OTHER.items() if name not in LATER}
EVERYTHING = nested({**_OLD, "data.split.test": 0.1, "data.over_long": "window"})
DROPPED = nested(
    {"train.lora.target_modules": FOUR, "data.over_long": "drop", "data.window_overlap": 9, "train.precision_mode": "lora_int8"}
)

# Made by the code before settings declared what they affect, by `fingerprints` of this folder.
GOLDEN: list[tuple[str, dict[str, Any], dict[Result, str]]] = [
    (
        "defaults",
        nested({"train.lora.target_modules": FOUR}),
        {
            "rows": "ada6a34cf36f41a7", "plan": "06456a75eb791997", "speed": "3dcf6738aee1f00e", "adapter": "7efed5aa1963b646",
            "report": "b804e673f084ddcf", "verdicts": "96638bbeb0c90302", "package": "7cc86d7c3aa90c8b",
        },
    ),
    (
        "everything else",
        EVERYTHING,
        {
            "rows": "5dd6291eef56802d", "plan": "fe53ad16cb3ee4ac", "speed": "49dafcb447dc827e", "adapter": "fdb44d32444820a2",
            "report": "2aa4dd61c42ebe67", "verdicts": "82285dc8d3a6f35d", "package": "73be2a0924ab6c6b",
        },
    ),
    (
        "over-long rows left out",
        DROPPED,
        {
            "rows": "5a2bda7dc2f9bd48", "plan": "577bd01bb6fcf7fe", "speed": "0f340e49e9d715db", "adapter": "c1e21d373b36abf7",
            "report": "eb65046afbe82442", "verdicts": "96638bbeb0c90302", "package": "d860cab8968b7bde",
        },
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_files(monkeypatch)


@pytest.mark.parametrize(("name", "document", "expected"), GOLDEN, ids=[name for name, *_ in GOLDEN])
def test_what_was_made_before_is_found(name: str, document: dict[str, Any], expected: dict[str, str]) -> None:
    assert fingerprints(Config.model_validate(document)) == expected


def test_every_setting_declares_what_it_affects() -> None:
    with pytest.raises(TypeError, match="affects"):
        setting(1, "A setting.")  # type: ignore[call-arg]
    assert set(affected()) == {key.name for key in every_key()} == set(OTHER), "each has another value here"
    assert {each for results in affected().values() for each in results} == set(typing.get_args(Result))


@pytest.mark.parametrize("name", OTHER)
def test_changing_a_setting_changes_the_fingerprints_that_it_names_and_no_other(name: str) -> None:
    default = Config()
    changed = Config.model_validate(nested({name: OTHER[name], **_WITH.get(name, {})}))
    assert changed != default
    before, after = fingerprints(default), fingerprints(changed)
    assert {result for result in before if before[result] != after[result]} == set(affected()[name])


def test_a_setting_that_an_older_version_did_not_know_goes_into_the_fingerprint_by_itself() -> None:
    known = {"train": {"lr": 0.1}, "seed": 42}
    assert in_order(known, "seed", "train") == [42, {"lr": 0.1}]
    later = {**known, "eval": {"suite": "arc"}}
    assert in_order(later, "seed", "train.lr") == [42, 0.1, {"eval": {"suite": "arc"}}]
    assert later == {**known, "eval": {"suite": "arc"}}, "whoever asks again finds all of it"
    with pytest.raises(KeyError):
        in_order(known, "data.packing")


def test_a_setting_that_came_later_makes_nothing_anew_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older result was made without `train.lora.dropout`, which then meant what its default says now."""
    whole, known = fingerprints(Config()), dict(affected())
    monkeypatch.setattr(affects, "at_default_left_out", lambda: {"train.lora.dropout": Config().train.lora.dropout})
    unused, used = fingerprints(Config()), fingerprints(with_value(Config(), "train.lora.dropout", "0.5"))
    monkeypatch.setattr(affects, "affected", lambda: {**known, "train.lora.dropout": ()})
    before = fingerprints(Config())
    assert unused == before != whole
    assert {result for result in before if used[result] != before[result]} == set(known["train.lora.dropout"])


def test_a_results_settings_are_those_of_the_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affects, "affected", lambda: {"data.schema": ("rows",), "train.lora.r": ("rows",), "seed": ()})
    config = with_value(Config(), "train.lora.r", "4")
    assert settings_of(config, "rows") == {"data": {"schema": "chat_messages"}, "train": {"lora": {"r": 4}}}
