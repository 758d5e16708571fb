"""Axolotl's YAML. Source: https://docs.axolotl.ai/docs/config-reference.html and dataset-formats/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.foreign import arguments as shared
from pipeline.config.foreign.arguments import Rule, done_anyway, number, only, to, without
from pipeline.config.foreign.report import NO_COUNTERPART, Report

_FILES = ("json", "csv", "parquet", "arrow", "text")
_ALPACA = ("alpaca", "alpaca_chat", "alpaca_w_system")
_TEMPLATES = {"chatml": "chatml", "llama3": "llama-3", "gemma": "gemma", "alpaca": "alpaca"}


def is_training(document: Mapping[str, Any]) -> bool:
    """Whether a YAML is a config of theirs."""
    return "base_model" in document and bool(
        document.keys() & {"datasets", "adapter", "sequence_len", "micro_batch_size", "pretraining_dataset"}
    )


def _adapter(report: Report, theirs: str, value: Any) -> None:
    if value in ("lora", "qlora"):
        report.same(theirs, value, "an adapter is trained")
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: a LoRA adapter is trained")


def _all_linear(report: Report, theirs: str, value: Any) -> None:
    if value:
        report.became(theirs, value, {"train.lora.target_modules": "all-linear"})
    else:
        report.same(theirs, value, "lora_target_modules says which")


def _template(report: Report, theirs: str, value: Any) -> None:
    if value in _TEMPLATES:
        report.became(theirs, value, {"data.template": _TEMPLATES[value]})
    elif str(value).startswith("tokenizer_default"):
        report.same(theirs, value, "data.template auto takes the model's own")
    else:
        report.lost(theirs, value, "data.template auto takes the model's own; a Jinja file can be given there")


def _scheduler_of(report: Report, theirs: str, value: Any) -> None:
    shared.scheduler(report, theirs, value)


_OWN_CHOICE = done_anyway("train.kernels and train.attention choose")
_RULES: dict[str, Rule] = {
    **{key: rule for key, rule in shared.TRAINING.items() if key not in ("optim", "lr_scheduler_type")},
    "revision_of_model": to("model.revision"),
    "adapter": _adapter,
    "sequence_len": to("data.max_seq_len"),
    "sample_packing": to("data.packing"),
    "eval_sample_packing": done_anyway("as the training rows"),
    "pad_to_sequence_len": done_anyway("rows of one length are made by packing"),
    "lora_r": to("train.lora.r"),
    "lora_alpha": to("train.lora.alpha"),
    "lora_dropout": shared.dropout,
    "lora_target_modules": shared.targets,
    "lora_target_linear": _all_linear,
    "peft_use_rslora": to("train.lora.rslora"),
    "peft_use_dora": to("train.lora.dora"),
    "lora_modules_to_save": without(f"{NO_COUNTERPART}: the adapter alone is trained"),
    "lora_model_dir": without(f"{NO_COUNTERPART}: an adapter begins anew"),
    "chat_template": _template,
    "val_set_size": shared.held_out,
    "test_datasets": without("name their file: humigence config set data.val_path PATH, else rows are held out by data.split"),
    "num_epochs": number("train.epochs"),
    "learning_rate": number("train.lr"),
    "lr_scheduler": _scheduler_of,
    "optimizer": shared.optimizer,
    "early_stopping_patience": to("train.early_stopping.patience"),
    "gradient_checkpointing": shared.checkpointing,
    "gradient_checkpointing_kwargs": done_anyway("chosen here"),
    "train_on_inputs": only(False, "only answers are trained", f"{NO_COUNTERPART}: only answers are trained"),
    "flash_attention": _OWN_CHOICE,
    "sdp_attention": _OWN_CHOICE,
    "xformers_attention": _OWN_CHOICE,
    "flex_attention": _OWN_CHOICE,
    "evals_per_epoch": without("train.eval_every_steps auto: at least ten evaluations in a run"),
    "saves_per_epoch": without("train.save_every_steps auto: every ten minutes, and at each evaluation"),
    "dataset_prepared_path": done_anyway("data.processed_dir"),
    "strict": done_anyway("weights are checked"),
    "special_tokens": without(f"{NO_COUNTERPART}: the model's own special tokens stay"),
    "tokens": without(f"{NO_COUNTERPART}: no tokens are added to a vocabulary"),
    "model_type": done_anyway("found out from its config"),
    "tokenizer_type": done_anyway("found out from its files"),
    "is_llama_derived_model": done_anyway("found out from its config"),
    "rl": without(f"{NO_COUNTERPART}: answers are trained"),
    "hub_model_id": without("nothing is sent anywhere"),
    "deepspeed": without(f"{NO_COUNTERPART}: one GPU trains"),
    "debug": done_anyway("humigence data show shows rows"),
    "auto_resume_from_checkpoints": done_anyway("a run can be resumed"),
}


def read_training(document: Mapping[str, Any], folder: Path, wanted: str | None) -> Report:
    """A config of theirs."""
    report = Report("Axolotl")
    rules = {**_RULES, "base_model": shared.model(folder)}
    apart = {"datasets", "pretraining_dataset", "micro_batch_size", "gradient_accumulation_steps", *shared.PRECISION}
    shared.take(report, rules, {key: value for key, value in document.items() if key not in apart})
    precision = {key: document[key] for key in document if key in shared.PRECISION}
    if document.get("adapter") == "qlora" and not precision.get("load_in_8bit"):
        precision["load_in_4bit"] = True
    shared.precision(report, precision)
    named, length = ("micro_batch_size", "gradient_accumulation_steps"), document.get("sequence_len", 2048)
    shared.batch(report, document.get(named[0]), document.get(named[1]), length if isinstance(length, int) else 2048, named)
    _data(report, document, folder, wanted)
    return report


def _data(report: Report, document: Mapping[str, Any], folder: Path, wanted: str | None) -> None:
    named = document.get("datasets") or document.get("pretraining_dataset")
    sets = [
        each if isinstance(each, dict) else {"path": each}
        for each in (named if isinstance(named, list) else [named] if named else [])
    ]
    if not sets:
        report.needed.append("which rows: humigence config set data.raw_path PATH")
        return
    chosen = next((each for each in sets if wanted and each.get("path") == wanted), sets[0])
    for other in sets:
        if other is not chosen:
            report.lost(
                "datasets", other.get("path"), f"one data set is taken: {chosen.get('path')}; --dataset PATH takes another"
            )
    _place(report, chosen, folder)
    kind = chosen.get("type", "completion" if "pretraining_dataset" in document and "datasets" not in document else None)
    _kind(report, kind, chosen)
    done = {"path", "data_files", "name", "split", "revision", "type", "ds_type", "field_messages", "message_property_mappings",
            "message_field_role", "message_field_content", "field", "roles", "conversation", "chat_template"}  # fmt: skip
    others: dict[str, Rule] = {
        "shards": without(f"{NO_COUNTERPART}: all rows are read"),
        "trust_remote_code": shared.remote_code,
        "roles_to_train": only(["assistant"], "answers are trained", f"{NO_COUNTERPART}: answers are trained"),
        "train_on_eos": done_anyway("the token that ends an answer is trained"),
        "train_on_eot": done_anyway("trained"),
    }
    if "chat_template" in chosen:
        _template(report, "datasets.chat_template", chosen["chat_template"])
    shared.take(report, others, {key: value for key, value in chosen.items() if key not in done})


def _place(report: Report, chosen: Mapping[str, Any], folder: Path) -> None:
    path, inside = str(chosen.get("path", "")), chosen.get("data_files")
    files = [inside] if isinstance(inside, str) else inside
    if path in _FILES and files:
        report.became("datasets.data_files", inside, {"data.source": "local", "data.raw_path": str(files[0])})
        if len(files) > 1:
            report.lost("datasets.data_files", files[1:], "put them into one folder, and give that as data.raw_path")
    elif (folder / path).exists() or path.startswith(("/", "./", "../", "~")) or path.count("/") > 1 or _is_file_name(path):
        report.became("datasets.path", path, {"data.source": "local", "data.raw_path": path})
    else:
        given = {"name": "subset", "split": "split", "revision": "revision"}
        settings = {"data.source": "hub", "data.hub.repo": path}
        settings |= {f"data.hub.{ours}": chosen[theirs] for theirs, ours in given.items() if chosen.get(theirs)}
        report.became("datasets.path", path, settings)
        if inside:
            report.lost("datasets.data_files", inside, "data.hub.subset and data.hub.split say which files")


def _is_file_name(path: str) -> bool:
    return Path(path).suffix in (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")


def _kind(report: Report, kind: Any, chosen: Mapping[str, Any]) -> None:
    """How its rows are written."""
    if isinstance(kind, dict):
        _custom(report, kind)
        return
    name = str(kind or "").partition(".")[0].partition(":")[0]
    field = str(chosen.get("field_messages", "messages"))
    mapped = chosen.get("message_property_mappings") or {}
    role = chosen.get("message_field_role") or mapped.get("role", "role")
    if name in _ALPACA:
        report.became("datasets.type", kind, {"data.schema": "alpaca"})
    elif name == "completion":
        column = str(chosen.get("field", "text"))
        columns = {"data.columns": [f"text={column}"]} if column != "text" else {}
        report.became("datasets.type", kind, {"data.schema": "text", **columns})
    elif name == "sharegpt":
        report.became("datasets.type", kind, {"data.schema": "sharegpt"})
    elif name == "chat_template":
        ours, key = ("chat_messages", "messages") if role == "role" else ("sharegpt", "conversations")
        columns = {"data.columns": [f"{key}={field}"]} if field != key else {}
        report.became("datasets.type", kind, {"data.schema": ours, **columns})
        if role not in ("role", "from"):
            report.lost(
                "datasets.message_field_role", role, f"{NO_COUNTERPART}: messages have role and content, or from and value"
            )
    else:
        report.same("datasets.type", kind, "data.schema auto finds it out; humigence data inspect shows it")
    if chosen.get("roles"):
        report.lost("datasets.roles", chosen["roles"], "the usual names of who speaks are known (human, gpt, user, assistant …)")


def _custom(report: Report, kind: Mapping[str, Any]) -> None:
    ours = {"field_instruction": "instruction", "field_input": "input", "field_output": "output", "field_system": "system"}
    pairs = [f"{ours[key]}={kind[key]}" for key in ours if kind.get(key) and kind[key] != ours[key]]
    report.became("datasets.type", dict(kind), {"data.schema": "alpaca", **({"data.columns": pairs} if pairs else {})})
    for key in kind.keys() - ours.keys():
        report.lost(f"datasets.type.{key}", kind[key], "the model's chat template writes the prompt")
