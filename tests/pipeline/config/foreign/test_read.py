"""Configs of other trainers, in the forms that are published: nothing in them is passed over in silence, nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.foreign.read import read_foreign
from pipeline.config.foreign.report import Report
from pipeline.config.schema import Config

LLAMA_FACTORY = """
### model
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
quantization_bit: 4
### dataset
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
val_size: 0.1
eval_steps: 500
my_own_key: 7
"""
INFO = {
    "identity": {"file_name": "identity.json"},
    "alpaca_en_demo": {"hf_hub_url": "llamafactory/alpaca_en", "ms_hub_url": "llamafactory/alpaca_en"},
    "glaive": {
        "file_name": "glaive_toolcall_en_demo.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "tools": "tools"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    },
    "slim": {
        "hf_hub_url": "Open-Orca/SlimOrca",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "kunde"},
    },
    "questions": {"file_name": "q.json", "columns": {"prompt": "frage", "response": "antwort", "images": "bild"}},
    "pairs": {
        "file_name": "dpo.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    },
}  # fmt: skip
AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: teknium/GPT4-LLM-Cleaned
    type: alpaca
  - path: rows.jsonl
    type: chat_template
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
adapter: qlora
sequence_len: 2048
sample_packing: true
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_modules: [gate_proj, down_proj, q_proj]
gradient_accumulation_steps: 2
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
warmup_steps: 10
evals_per_epoch: 4
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
wandb_project:
plugins: [axolotl.integrations.liger.LigerPlugin]
"""
UNSLOTH = """
raise SystemExit("this program is never run")
from unsloth import FastLanguageModel
max_seq_length = 2048
rank = 16
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = "unsloth/llama-3-8b-bnb-4bit", max_seq_length = max_seq_length, dtype = None, load_in_4bit = True,
)
model = FastLanguageModel.get_peft_model(
    model, r = rank, target_modules = ["q_proj", "k_proj"], lora_alpha = 2 * rank, lora_dropout = 0, bias = "none",
    use_gradient_checkpointing = "unsloth", random_state = 3407, use_rslora = False, loftq_config = None,
)
from datasets import load_dataset
dataset = load_dataset("yahma/alpaca-cleaned", split = "train")
trainer = SFTTrainer(
    model = model, tokenizer = tokenizer, train_dataset = dataset, dataset_text_field = "text", packing = False,
    args = SFTConfig(
        per_device_train_batch_size = 2, gradient_accumulation_steps = 4, warmup_steps = 5, max_steps = 60,
        learning_rate = 2e-4, fp16 = not is_bfloat16_supported(), bf16 = is_bfloat16_supported(), logging_steps = 1,
        optim = "adamw_8bit", weight_decay = 0.01, lr_scheduler_type = "linear", seed = find_seed(), output_dir = "outputs",
        something_new = 3,
    ),
)
"""


def read(folder: Path, name: str, content: Any, dataset: str | None = None) -> Report:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_foreign(path, dataset)


def of(config: Config, *keys: str) -> list[Any]:
    values = []
    for key in keys:
        value: Any = config.to_json()
        for part in key.split("."):
            value = value[part]
        values.append(value)
    return values


def lost(report: Report) -> dict[str, str]:
    return {line.theirs: line.note for line in report.lines if line.outcome == "lost"}


def test_a_training_yaml_of_llama_factory_becomes_the_same_training(tmp_path: Path) -> None:
    report = read(tmp_path, "llama3_lora_sft.yaml", LLAMA_FACTORY)
    config = report.config()
    assert of(config, "model.repo", "train.lora.r", "train.lora.alpha", "train.lora.target_modules") == [
        "meta-llama/Meta-Llama-3-8B-Instruct", 8, 16, "all-linear"
    ]  # fmt: skip
    assert of(config, "train.precision_mode", "data.max_seq_len", "train.lr", "train.epochs") == ["qlora_nf4", 2048, 1e-4, 3.0]
    assert of(config, "train.tokens_per_step_target", "train.eval_every_steps") == [8 * 2048, 500]
    assert of(config, "data.split") == [{"train": 0.9, "val": 0.1, "test": 0.0}]
    notes = lost(report)
    assert "no code of a repository" in notes["trust_remote_code"] and "one GPU" in notes["ddp_timeout"]
    assert notes["my_own_key"] == "has no counterpart here" and "max_samples" in notes
    assert "dataset_info.json is not beside it" in notes["dataset"] and report.needed


def test_its_data_is_found_in_the_dataset_info_beside_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(INFO))
    first = read(tmp_path, "a.yaml", LLAMA_FACTORY)
    assert of(first.config(), "data.source", "data.raw_path") == ["local", str(tmp_path / "data/identity.json")]
    assert "alpaca_en_demo" in str([line.value for line in first.lines if line.theirs == "dataset"])
    other = read(tmp_path, "a.yaml", LLAMA_FACTORY, "alpaca_en_demo")
    assert of(other.config(), "data.source", "data.hub.repo") == ["hub", "llamafactory/alpaca_en"]


@pytest.mark.parametrize(
    ("name", "schema", "columns", "left"),
    [
        ("glaive", "sharegpt", [], []),
        ("slim", "chat_messages", [], ["tags.user_tag"]),
        ("questions", "alpaca", ["instruction=frage", "output=antwort"], ["columns.images"]),
        ("pairs", "preference", [], []),
    ],
)
def test_an_entry_says_how_rows_are_written(tmp_path: Path, name: str, schema: str, columns: list[str], left: list[str]) -> None:
    report = read(tmp_path, "dataset_info.json", INFO, name)
    assert of(report.config(), "data.schema", "data.columns") == [schema, columns]
    assert list(lost(report)) == left


def test_which_of_several_data_sets_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has 6 data sets: identity, alpaca_en_demo"):
        read(tmp_path, "dataset_info.json", INFO)
    with pytest.raises(BadInput, match="has no data set 'none'"):
        read(tmp_path, "dataset_info.json", INFO, "none")


def test_a_yaml_of_axolotl_becomes_the_same_training(tmp_path: Path) -> None:
    report = read(tmp_path, "qlora.yml", AXOLOTL)
    config = report.config()
    assert of(config, "model.repo", "data.source", "data.hub.repo", "data.schema") == [
        "NousResearch/Llama-3.2-1B", "hub", "teknium/GPT4-LLM-Cleaned", "alpaca"
    ]  # fmt: skip
    assert of(config, "train.precision_mode", "train.lr", "train.tokens_per_step_target") == ["qlora_nf4", 2e-4, 4 * 2048]
    assert of(config, "train.lora.target_modules") == [["gate_proj", "down_proj", "q_proj"]]
    assert {"plugins", "special_tokens", "warmup_steps", "evals_per_epoch"} <= lost(report).keys()
    second = read(tmp_path, "qlora.yml", AXOLOTL, "rows.jsonl").config()
    assert of(second, "data.source", "data.raw_path", "data.schema") == ["local", "rows.jsonl", "chat_messages"]


@pytest.mark.parametrize(
    ("entry", "schema", "columns"),
    [
        ({"type": "completion", "field": "body"}, "text", ["text=body"]),
        (
            {"type": "chat_template", "field_messages": "conversations", "message_property_mappings": {"role": "from"}},
            "sharegpt",
            [],
        ),
        ({"type": {"field_instruction": "q", "field_output": "a", "format": "Q"}}, "alpaca", ["instruction=q", "output=a"]),
        ({"type": "alpaca_chat.load_qa"}, "alpaca", []),
        ({"type": "gpteacher"}, "auto", []),
    ],
)  # fmt: skip
def test_how_axolotl_writes_rows(tmp_path: Path, entry: dict[str, Any], schema: str, columns: list[str]) -> None:
    document = {"base_model": "a/b", "datasets": [{"path": "json", "data_files": "x.json", **entry}]}
    config = read(tmp_path, "a.yaml", json.dumps(document)).config()
    assert of(config, "data.raw_path", "data.schema", "data.columns") == ["x.json", schema, columns]
    assert of(config, "data.split") == [{"train": 0.8, "val": 0.1, "test": 0.1}]


def notebook() -> str:
    cells = [
        {"cell_type": "code", "source": ["%%capture\n", "!pip install unsloth"]},
        {"cell_type": "markdown", "source": "# r = 3"},
    ]
    return json.dumps({"cells": [*cells, {"cell_type": "code", "source": UNSLOTH.splitlines(keepends=True)}]})


@pytest.mark.parametrize(("name", "content"), [("train.py", UNSLOTH), ("Llama3.ipynb", notebook())])
def test_the_arguments_of_a_script_are_read_and_nothing_of_it_is_run(tmp_path: Path, name: str, content: str) -> None:
    report = read(tmp_path, name, content)
    config = report.config()
    assert of(config, "model.repo", "data.hub.repo", "data.hub.split", "data.max_seq_len") == [
        "unsloth/llama-3-8b", "yahma/alpaca-cleaned", "train", 2048
    ]  # fmt: skip
    assert of(config, "train.lora.r", "train.lora.alpha", "train.lora.dropout", "seed") == [16, 32, 0.0, 3407]
    assert of(config, "train.precision_mode", "train.max_steps", "train.scheduler") == ["qlora_nf4", 60, "linear"]
    assert of(config, "train.tokens_per_step_target", "train.gradient_checkpointing", "data.packing") == [16384, True, False]
    notes = lost(report)
    assert notes["seed"] == "is computed by the script: set it yourself" and "something_new" in notes
    assert of(config, "train.warmup_ratio") == [0.083333] and any("quantized already" in line.note for line in report.lines)


def test_every_value_of_theirs_has_a_line(tmp_path: Path) -> None:
    import yaml

    for name, content in (("a.yaml", LLAMA_FACTORY), ("b.yaml", AXOLOTL)):
        told = {part for line in read(tmp_path, name, content).lines for part in line.theirs.replace(" × ", ", ").split(", ")}
        told |= {each.partition(".")[0] for each in told}
        silent = [key for key, value in yaml.safe_load(content).items() if key not in told and value not in (None, False)]
        assert silent == []


def test_a_value_that_is_not_allowed_here_leaves_the_default_and_says_so(tmp_path: Path) -> None:
    report = read(tmp_path, "a.yaml", "base_model: a/b\nsequence_len: 1\nlora_r: 99999\n")
    assert of(report.config(), "data.max_seq_len", "train.lora.r") == [1024, 16]
    notes = lost(report)
    assert "must be a whole number" in notes["sequence_len"] and "its default is kept" in notes["lora_r"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "just: this", "no config of a trainer"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "cannot be read"),
        ("a.json", '{"messages": []}', "no config of a trainer"),
        ("a.py", "print(1)", "calls nothing of Unsloth or TRL"),
        ("a.py", "def", "cannot be read as Python"),
        ("a.ipynb", "{}", "cannot be read as Python"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(tmp_path, name, content)
