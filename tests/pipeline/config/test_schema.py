"""Settings: the specification's defaults, every problem told at once, names as people write them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.errors import BadInput
from pipeline.config import file as config_file
from pipeline.config import keys as config_keys
from pipeline.config.schema import Config

# Those the specification gives in words.
SPECIFIED = {
    "model.repo": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "data.raw_path": "data/raw/oa.jsonl",
    "data.schema": "auto",
    "data.split.train": 0.8,
    "data.split.val": 0.1,
    "data.split.test": 0.1,
    "train.precision_mode": "qlora_nf4",
    "train.lr": 0.0002,
    "train.scheduler": "cosine",
    "train.warmup_ratio": 0.03,
    "train.lora.r": 16,
    "train.lora.alpha": 32,
    "train.lora.dropout": 0.05,
    "train.tokens_per_step_target": "auto",
    "train.eval_every_steps": "auto",
    "train.save_every_steps": "auto",
    "export.formats": ["peft_adapter"],
}


def problems(document: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        config_file.parse(document, "my.json")
    return caught.value.message


@pytest.mark.parametrize(("key", "value"), SPECIFIED.items())
def test_defaults_are_the_specifications(key: str, value: object) -> None:
    assert config_file.get(Config(), key) == value


def test_the_shipped_basic_config_is_the_defaults_with_the_bundled_rows() -> None:
    shipped = config_file.read_document(config_file.shipped(config_file.DEFAULT_CONFIG))
    bundled = config_file.with_value(Config(), "data.source", "bundled")
    # Its four layers are the specification's.
    expected = config_file.with_value(bundled, "train.lora.target_modules", "q_proj,k_proj,v_proj,o_proj")
    assert shipped == expected.to_json()


def test_every_shipped_config_is_valid(workspace: Path) -> None:
    names = [file.name for file in config_file.shipped("configs").glob("*.json")]
    assert {"humigence.basic.json", "humigence.demo.json"} <= set(names)
    for name in names:
        config_file.load(f"configs/{name}", workspace)


def test_all_problems_of_a_file_are_told_at_once_with_file_key_and_what_is_allowed() -> None:
    message = problems(
        {
            "train": {"lr": -1, "scheduler": "cosinus", "epocs": 3},
            "data": {"max_seq_len": "long"},
            "compute": {"gpu": "the big one"},
            "acceptance": {"curated_threshold": 1.5},
        }
    )
    assert message.startswith("my.json: 6 problems")
    assert "train.lr: must be a number > 0 and ≤ 1, not -1" in message
    assert 'train.scheduler: must be cosine, linear, constant, not "cosinus"' in message
    assert "train.epocs: unknown key, did you mean train.epochs?" in message
    assert 'data.max_seq_len: must be a whole number ≥ 16 and ≤ 131072, not "long"' in message
    assert 'compute.gpu: must be auto, cpu, an index or a UUID, not "the big one"' in message
    assert "acceptance.curated_threshold: must be a number ≥ 0 and ≤ 1, not 1.5" in message


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("trian", "train"),
        ("data.max_seq_length", "data.max_seq_len"),
        ("train.lora.rank", "train.lora.r"),
        ("learning_rate", None),
        ("acceptance.min_val_improvment_pct", "acceptance.min_val_improvement_pct"),
        ("data.splits", "data.split"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(wrong: str, meant: str | None) -> None:
    document: dict[str, Any] = {}
    *sections, last = wrong.split(".")
    inner = document
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = {} if wrong in ("trian", "data.splits") else 1
    message = problems(document)
    assert f"{wrong}: unknown key" in message
    if meant:
        assert f"did you mean {meant}?" in message


def test_problems_between_two_settings_name_their_section() -> None:
    message = problems({"data": {"split": {"train": 0.5, "val": 0.1, "test": 0.1}}})
    assert "data.split: train + val + test must be 1, not 0.7" in message
    assert "window_overlap (64) must be smaller than max_seq_len (32)" in problems(
        {"data": {"max_seq_len": 32, "window_overlap": 64}}
    )


def test_the_overlap_of_windows_follows_the_length_unless_it_is_given() -> None:
    assert [Config(data={"max_seq_len": length}).data.overlap for length in (16, 128, 1024, 131_072)] == [4, 32, 128, 128]  # type: ignore[arg-type]
    assert Config(data={"max_seq_len": 1024, "window_overlap": 7}).data.overlap == 7  # type: ignore[arg-type]
    assert config_file.with_value(Config(), "data.max_seq_len", "128").data.max_seq_len == 128
    assert "auto always is" in problems({"data": {"max_seq_len": 32, "window_overlap": 64}})


def test_not_a_number_is_refused_wherever_a_number_stands() -> None:
    assert "train.lr" in problems({"train": {"lr": float("nan")}})
    assert "train.grad_clip" in problems({"train": {"grad_clip": float("inf")}})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"train": {"lr": 0.1,}}', "line 1, column "),
        ('{"seed": 1, "seed": 2}', "the key 'seed' stands twice"),
        ("[1, 2]", "a config is a JSON object, this is a list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": "\\ud800"}', "seed"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_the_place(workspace: Path, content: str, told: str) -> None:
    (workspace / "my.json").write_text(content)
    with pytest.raises(BadInput, match=re.escape(told)) as caught:
        config_file.load("my.json")
    assert str(workspace / "my.json") in caught.value.message


def test_a_missing_file_names_itself_and_a_shipped_one_is_found_in_an_empty_folder(workspace: Path) -> None:
    with pytest.raises(BadInput, match="no such config file"):
        config_file.load("configs/other.json")
    assert config_file.load(config_file.DEFAULT_CONFIG).project == "humigence"


def test_the_folders_own_file_comes_before_the_shipped_one(workspace: Path) -> None:
    config_file.save(config_file.with_value(Config(), "seed", "7"), config_file.DEFAULT_CONFIG)
    assert config_file.load(config_file.DEFAULT_CONFIG).seed == 7


def test_lora_r_means_train_lora_r_in_files_and_on_the_command_line() -> None:
    assert config_file.parse({"lora": {"r": 8}}, "").train.lora.r == 8
    changed = config_file.with_value(Config(), "lora.r", "64")
    assert changed.train.lora.r == config_file.get(changed, "lora.r") == 64
    both = problems({"lora": {"r": 8}, "train": {"lora": {"r": 16}}})
    assert "lora: unknown key" in both  # two answers to one question


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("train.lr", "1e-4", 1e-4),
        ("project", "7", "7"),
        ("data.packing", "false", False),
        ("model.local_path", "null", None),
        ("train.lora.target_modules", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("train.lora.target_modules", "all-linear", "all-linear"),
        ("train.lora.target_modules", '["all-linear"]', "all-linear"),
        ("train.lora.target_modules", '["q_proj"]', ["q_proj"]),
        ("train.lora.target_modules", "[q_proj,v_proj]", ["q_proj", "v_proj"]),
        ("train.lora.target_modules", "['q_proj', 'v_proj']", ["q_proj", "v_proj"]),
        ("train.lora.target_modules", "q_proj v_proj", ["q_proj", "v_proj"]),
        ("data.generate.topics", "animals units", ["animals", "units"]),
        ("data.columns", "prompt=my question", ["prompt=my question"]),
        ("train.micro_batch", "auto", "auto"),
        ("train.gradient_checkpointing", "true", True),
        ("data.split", '{"train": 0.6, "val": 0.3}', {"train": 0.6, "val": 0.3, "test": 0.1}),
        ("data.split", "0.7,0.2,0.1", {"train": 0.7, "val": 0.2, "test": 0.1}),
        ("data.split", "80/10/10", {"train": 0.8, "val": 0.1, "test": 0.1}),
        ("model.repo", "https://huggingface.co/owner/name/tree/main", "owner/name"),
        ("compute.gpu", "0", "0"),
        ("data.raw_path", "a, b.jsonl", "a, b.jsonl"),
    ],
)
def test_set_takes_values_as_people_type_them(key: str, typed: str, value: object) -> None:
    assert config_file.get(config_file.with_value(Config(), key, typed), key) == value


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("train.lr", "fast"),
        ("train.lora.r", "0"),
        ("data.split.train", "1.1"),
        ("nothing", "1"),
        ("model.repo", "x y z"),
        ("train.lora.target_modules", "q proj*"),
        ("data.split", "0.7 0.2 0.2"),
    ],
)
def test_set_refuses_what_would_not_load(key: str, typed: str) -> None:
    with pytest.raises(BadInput):
        config_file.with_value(Config(), key, typed)


def test_every_key_has_help_a_default_that_is_allowed_and_words_for_what_is_allowed() -> None:
    listed = list(config_keys.every_key())
    assert len(listed) > 40
    for key in listed:
        assert key.help.endswith("."), key
        assert key.allowed, key
        typed = key.default if isinstance(key.default, str) else json.dumps(key.default)
        assert config_file.with_value(Config(), key.name, typed) == Config(), key


@given(
    lr=st.floats(1e-9, 1),
    r=st.integers(1, 1024),
    packing=st.booleans(),
    project=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    modules=st.lists(st.sampled_from(["q_proj", "k_proj", "up_proj", "näh"]), min_size=1, unique=True),
    steps=st.none() | st.integers(1),
)
def test_a_saved_config_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    lr: float,
    r: int,
    packing: bool,
    project: str,
    modules: list[str],
    steps: int | None,
) -> None:
    root = tmp_path_factory.mktemp("round-trip")
    document = {
        "project": project,
        "data": {"packing": packing},
        "train": {"lr": lr, "max_steps": steps, "lora": {"r": r, "target_modules": modules}},
    }
    config = config_file.parse(document, "")
    config_file.save(config, "configs/mine.json", root)
    assert config_file.load("configs/mine.json", root) == config


def test_saving_keeps_the_file_before_as_bak(workspace: Path) -> None:
    for seed in (1, 2, 3):
        config_file.save(config_file.with_value(Config(), "seed", str(seed)), "my.json")
    assert config_file.load("my.json").seed == 3
    assert config_file.load("my.json.bak").seed == 2
    (workspace / "my.json").write_text("{")
    with pytest.raises(BadInput) as caught:
        config_file.load("my.json")
    assert caught.value.hint.startswith("mend that line, or take back what was there before: cp ")


def test_a_shipped_file_is_copied_out_before_it_is_changed(workspace: Path) -> None:
    before = config_file.shipped(config_file.DEFAULT_CONFIG).read_bytes()
    saved = config_file.save(config_file.load(config_file.DEFAULT_CONFIG), config_file.DEFAULT_CONFIG)
    assert saved == workspace / config_file.DEFAULT_CONFIG
    assert config_file.shipped(config_file.DEFAULT_CONFIG).read_bytes() == before


@pytest.mark.parametrize("repo", ["../etc", "a/b/c", "x y z", "https://huggingface.co/datasets/owner/rows", ""])
def test_a_malformed_repository_is_told_as_soon_as_it_is_written(repo: str) -> None:
    assert f"model.repo: {repo!r} is not a repository name (owner/name)" in problems({"model": {"repo": repo}})


def test_a_value_that_is_wrong_is_one_problem() -> None:
    assert problems({"export": {"formats": ["gguf"]}}).startswith("my.json: 1 problem\n")
    assert problems({"model": {"repo": "x y"}}).count("model.repo: 'x y' is not a repository name") == 1


# ------------------------------------------------------------------------------------- settings that stand for each other


def test_a_path_that_is_set_means_the_persons_own_file_and_is_said() -> None:
    shipped = config_file.load(config_file.DEFAULT_CONFIG)
    assert shipped.data.source == "bundled"
    changed = config_file.with_value_noted(shipped, "data.raw_path", "data/custom.jsonl")
    assert (changed.config.data.source, changed.config.data.raw_path) == ("local", "data/custom.jsonl")
    assert changed.notes == ('data.source follows: "bundled" → "local"',)
    both = config_file.with_value(shipped, "data", '{"raw_path": "data/custom.jsonl"}')
    assert both.data.source == "local"


def test_rows_that_are_made_never_take_the_place_of_others() -> None:
    shipped = config_file.load(config_file.DEFAULT_CONFIG)
    generated = config_file.with_value(shipped, "data.source", "generated")
    assert generated.data.raw_path == "data/raw/generated.jsonl"  # where the demo lies they would be taken for made already
    own = config_file.with_value(shipped, "data.raw_path", "data/custom.jsonl")
    assert config_file.with_value(own, "data.source", "bundled").data.raw_path == "data/raw/oa_demo.jsonl"
    assert config_file.with_value(own, "data.source", "local").data.raw_path == "data/custom.jsonl"


@pytest.mark.parametrize(
    ("key", "typed", "shares"),
    [
        ("data.split.train", "0.9", (0.9, 0.05, 0.05)),
        ("data.split.train", "1", (1, 0, 0)),
        ("data.split.val", "0.2", (0.7, 0.2, 0.1)),
        ("data.split.test", "0", (0.9, 0.1, 0)),
    ],
)
def test_of_one_share_of_the_rows_the_others_follow(key: str, typed: str, shares: tuple[float, ...]) -> None:
    changed = config_file.with_value_noted(Config(), key, typed)
    split = changed.config.data.split
    assert (split.train, split.val, split.test) == pytest.approx(shares)
    assert changed.notes and all(" follows: " in note for note in changed.notes)
