"""Configs of the first Humigence load, and a person is told what each old spelling became."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.errors import BadInput
from pipeline.config import file as config_file
from pipeline.config import keys as config_keys
from pipeline.config import legacy
from pipeline.config.schema import Config, ExportFormat
from tests.processes import ROOT

OLD = ROOT / "tests" / "fixtures" / "old_configs"
SECTIONS = {
    "": "project seed model compute data train eval acceptance export",
    "model": "repo local_path use_flash_attn",
    "compute": "gpus gpu_type",
    "data": (
        "raw_path processed_dir schema max_seq_len packing split template collator_windowing window_overlap real_mode_threshold"
    ),
    "train": (
        "precision_mode lr scheduler warmup_ratio weight_decay grad_clip gradient_checkpointing tokens_per_step_target"
        " eval_every_steps save_every_steps epochs lora early_stopping"
    ),
    "train.early_stopping": "metric patience min_delta",
    "eval": "primary_metric curated_prompts_path temperature_low temperature_high sampling_enabled",
    "acceptance": "min_val_loss_improvement min_val_improvement_pct jitter_threshold curated_threshold",
    "export": "artifacts_dir formats",
}


def document(name: str = "first_load.json") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((OLD / name).read_text(encoding="utf-8"))
    return loaded


def loaded(name: str) -> config_file.Loaded:
    return config_file.load_noted(name, OLD)


def parsed(**sections: Any) -> Config:
    return config_file.parse(sections, "old.json")


@pytest.mark.parametrize(("section", "names"), SECTIONS.items())
def test_the_fixture_has_the_sections_and_keys_of_the_first_humigence(section: str, names: str) -> None:
    inner = document()
    for part in filter(None, section.split(".")):
        inner = inner[part]
    assert set(inner) == set(names.split())


def test_the_first_humigences_own_config_is_todays_defaults_but_for_what_it_fixed() -> None:
    config = loaded("first_load.json").config
    fixed = {
        "data.schema": "chat_messages",
        "data.window_overlap": 128,
        "train.gradient_checkpointing": True,
        "train.tokens_per_step_target": 100_000,
        "train.eval_every_steps": 500,
        "train.save_every_steps": 500,
        "train.lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    }
    assert {key.name: config_file.get(config, key.name) for key in config_keys.every_key() if key.name in fixed} == fixed
    for key, value in fixed.items():
        assert config_file.get(config, key) == value
    plain = Config()
    different = [
        key.name for key in config_keys.every_key() if config_file.get(config, key.name) != config_file.get(plain, key.name)
    ]
    assert set(different) == set(fixed)


def test_every_old_spelling_is_named_once_with_what_it_became() -> None:
    notes = loaded("first_load.json").notes
    assert 'train.epochs "auto_≈1" is 1 now' in notes
    assert 'model.use_flash_attn true is train.attention "auto" now' in notes
    assert 'compute.gpus 1 is compute.gpu "auto" now' in notes
    assert 'data.collator_windowing "window" is data.over_long "window" now' in notes
    assert "eval.sampling_enabled false is eval.temperature 0 now" in notes
    assert "acceptance.jitter_threshold 20 is 0.2 now" in notes
    assert "acceptance.curated_threshold 70 is 0.7 now" in notes
    assert 'export.artifacts_dir "artifacts/humigence" is "artifacts" now' in notes
    told = "\n".join(notes)
    for key in (*legacy.GONE, "eval.temperature_high", "acceptance.min_val_loss_improvement"):
        assert told.count(key) == 1, key
    assert sum("no longer mean anything" in note for note in notes) == 1


def test_what_a_person_had_changed_is_taken_over() -> None:
    config = loaded("first_load_changed.json").config
    assert config.train.epochs == 10
    assert config.eval.temperature == 0.7
    assert config.data.over_long == "drop"
    assert config.train.attention == "sdpa"
    assert config.model.local_path is None, "a snapshot of the hub cache is found by the repository's name"
    assert (config.acceptance.jitter_threshold, config.acceptance.curated_threshold) == (0.25, 0.8)
    assert config.acceptance.min_val_improvement_pct == 2.0
    assert config.export.formats == ("peft_adapter", "merged_fp16")


def test_the_names_it_saved_its_config_under_are_read_too() -> None:
    config = loaded("first_load_resaved.json").config
    assert config.data.row_schema == "chat_messages"
    assert config.acceptance.min_val_improvement_pct == 1.5
    assert (config.acceptance.jitter_threshold, config.acceptance.curated_threshold) == (0.25, 0.6)


@pytest.mark.parametrize(
    ("written", "today"),
    [
        (["peft_adapter", "merged_fp16"], ["peft_adapter", "merged_fp16"]),
        (["merged_fp16"], ["peft_adapter", "merged_fp16"]),
        (["runtime_int8"], ["peft_adapter", "runtime_int8"]),
        *((["peft_adapter", each], ["peft_adapter", each]) for each in get_args(ExportFormat) if each != "peft_adapter"),
    ],
)
def test_the_formats_it_listed_are_kept_with_the_adapter_beside_them(written: list[str], today: list[str]) -> None:
    assert legacy.modernize({"export": {"formats": written}}).document["export"]["formats"] == today


@pytest.mark.parametrize(("written", "epochs"), [("auto_≈1", 1), ("auto_~2", 2), ("auto", 1), ("auto_≈0.5", 0.5), (10, 10)])
def test_epochs_that_were_worked_out_are_numbers(written: object, epochs: float) -> None:
    assert parsed(train={"epochs": written}).train.epochs == epochs


@pytest.mark.parametrize(
    ("sampling", "high", "temperature"), [(True, 0.9, 0.9), (True, None, 0.7), (False, 0.9, 0), (None, 0.9, 0)]
)
def test_answers_are_sampled_as_they_were(sampling: bool | None, high: float | None, temperature: float) -> None:
    said = {"sampling_enabled": sampling, "temperature_high": high, "temperature_low": 0.2}
    assert parsed(eval={key: value for key, value in said.items() if value is not None}).eval.temperature == temperature


@pytest.mark.parametrize(
    ("given", "percent"),
    [
        ({"min_val_loss_improvement": 2.5}, 2.5),
        ({"min_val_loss_improvement": 0.01}, 1.0),
        ({"min_val_loss_improvement": 3.0, "min_val_improvement_pct": 2.0}, 2.0),
        ({"min_val_improvement_pct": 0.05}, 0.05),
    ],
)
def test_the_improvement_asked_for_is_in_percent_of_the_loss(given: dict[str, float], percent: float) -> None:
    assert parsed(acceptance=given).acceptance.min_val_improvement_pct == percent


@pytest.mark.parametrize(("gpus", "gpu"), [(1, "auto"), (0, "cpu"), ([2], "2")])
def test_a_number_of_gpus_is_a_device(gpus: object, gpu: str) -> None:
    assert parsed(compute={"gpus": gpus}).compute.gpu == gpu


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"compute": {"gpus": 2}}, "compute.gpus: several GPUs are not in this version"),
        ({"train": {"early_stopping": {"metric": "rouge"}}}, "train.early_stopping.metric: only the held-out loss"),
        ({"model": {"use_flash_attn": "yes"}}, 'model.use_flash_attn: takes true, false, not "yes"'),
        ({"data": {"collator_windowing": "cut"}}, "data.collator_windowing: takes"),
        ({"train": {"epochs": "auto_≈many"}}, "train.epochs: must be a number"),
        ({"acceptance": {"throughput_jitter_pct": "high"}}, "acceptance.jitter_threshold: must be a number"),
    ],
)
def test_an_old_value_that_means_nothing_today_is_refused_with_the_reason(sections: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        parsed(**sections)
    assert told in caught.value.message


def test_an_old_key_beside_todays_does_not_overrule_it() -> None:
    config = parsed(data={"collator_windowing": "window", "over_long": "drop"})
    assert config.data.over_long == "drop"


def test_a_config_of_today_is_read_without_a_note(workspace: Path) -> None:
    for name in ("humigence.basic.json", "humigence.demo.json"):
        assert config_file.load_noted(f"configs/{name}", workspace).notes == ()
    odd = Config(
        export={"artifacts_dir": "artifacts/humigence"}, model={"local_path": "/x/models--a--b/snapshots/1", "repo": "a/b"}
    )  # type: ignore[arg-type]
    config_file.save(odd, "odd.json", workspace)
    assert config_file.load_noted("odd.json", workspace) == config_file.Loaded(odd, ())


def test_what_was_translated_is_saved_in_todays_words_and_the_old_file_kept(workspace: Path) -> None:
    (workspace / "old.json").write_text((OLD / "first_load.json").read_text(encoding="utf-8"), encoding="utf-8")
    config_file.save(config_file.load("old.json"), "old.json")
    assert config_file.load_noted("old.json").notes == ()
    assert json.loads((workspace / "old.json.bak").read_text(encoding="utf-8")) == document()


@pytest.mark.parametrize(
    ("name", "typed", "key", "value"),
    [
        ("data.collator_windowing", "drop", "data.over_long", "drop"),
        ("model.use_flash_attn", "false", "train.attention", "sdpa"),
        ("eval.temperature_high", "0.9", "eval.temperature", 0.9),
        ("acceptance.throughput_jitter_pct", "15", "acceptance.jitter_threshold", 0.15),
        ("train.epochs", "auto_≈1", "train.epochs", 1.0),
        ("acceptance.curated_threshold", "75", "acceptance.curated_threshold", 0.75),
    ],
)
def test_set_and_get_take_old_names_and_values_and_say_so(name: str, typed: str, key: str, value: object) -> None:
    changed = config_file.with_value_noted(Config(train={"epochs": 3}), name, typed)  # type: ignore[arg-type]
    assert config_file.get(changed.config, key) == config_file.get(changed.config, name) == value
    assert changed.notes and key in changed.notes[0]


@pytest.mark.parametrize("name", legacy.GONE)
def test_a_name_that_means_nothing_any_more_says_why(name: str) -> None:
    for use in (lambda: config_file.get(Config(), name), lambda: config_file.with_value(Config(), name, "1")):
        with pytest.raises(BadInput, match="no longer means anything: "):
            use()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 200)
    | st.floats(allow_nan=True)
    | st.sampled_from(["auto_≈1", "val_loss", "window", ""]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["metric", "early_stopping", "gpus"]), inner, max_size=2)
    ),
    max_leaves=4,
)
KEYS = [
    *legacy.MOVED,
    *legacy.GONE,
    "train.epochs",
    "export.formats",
    "export.artifacts_dir",
    "model.local_path",
    "data",
    "eval",
]


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6))
def test_whatever_stands_under_an_old_key_is_taken_over_or_told(values: dict[str, Any]) -> None:
    whole: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        *sections, last = key.split(".")
        inner: Any = whole
        for section in sections:
            inner = inner.setdefault(section, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[last] = value
    before = json.dumps(whole, default=str)
    try:
        config_file.parse(whole, "old.json")
    except BadInput as error:
        assert "old.json: " in error.message
    assert json.dumps(whole, default=str) == before, "the document that was given is left as it was"
