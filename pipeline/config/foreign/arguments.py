"""Values that the trainers share: transformers' training arguments, LoRA's, the names of models. By their names there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.foreign.report import NO_COUNTERPART, Report

Rule = Callable[[Report, str, Any], None]
_QUANTIZED = re.compile(r"(?:-unsloth)?-(?:bnb-4bit|bnb-8bit|4bit|GPTQ|AWQ)(?:-Int[48])?$", re.IGNORECASE)
_ONE_GPU = f"{NO_COUNTERPART}: one GPU trains"
_FORMER = (
    "adamw",
    "adamw_torch",
    "adamw_hf",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_32bit",
)


def to(key: str, note: str = "") -> Rule:
    """The value as it is, under our key."""
    return lambda report, theirs, value: report.became(theirs, value, {key: value}, note)


def number(key: str) -> Rule:
    """A number, also one that YAML 1.1 takes for a text (1e-4)."""

    def rule(report: Report, theirs: str, value: Any) -> None:
        try:
            report.became(theirs, value, {key: value if isinstance(value, (int, float)) else float(value)})
        except (TypeError, ValueError):
            report.lost(theirs, value, "is no number")

    return rule


def done_anyway(note: str) -> Rule:
    return lambda report, theirs, value: report.same(theirs, value, note)


def without(note: str = NO_COUNTERPART) -> Rule:
    return lambda report, theirs, value: report.lost(theirs, value, note)


def only(wanted: Any, same: str, otherwise: str) -> Rule:
    """One value is what is done here; any other is not taken over."""

    def rule(report: Report, theirs: str, value: Any) -> None:
        if value == wanted:
            report.same(theirs, value, same)
        else:
            report.lost(theirs, value, otherwise)

    return rule


def scheduler(report: Report, theirs: str, value: Any) -> None:
    name = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}.get(str(value))
    if name is None:
        report.lost(theirs, value, f"{NO_COUNTERPART}: cosine, linear, constant are there")
    else:
        report.became(theirs, value, {"train.scheduler": name})


def warmup_steps(report: Report, theirs: str, value: Any) -> None:
    """A share below one is transformers' way to give a ratio."""
    if isinstance(value, float) and 0 < value < 1:
        report.became(theirs, value, {"train.warmup_ratio": value})
    elif value == 0:
        report.became(theirs, value, {"train.warmup_ratio": 0.0})
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: train.warmup_ratio is a share of the steps")


def max_steps(report: Report, theirs: str, value: Any) -> None:
    if isinstance(value, int) and value > 0:
        report.became(theirs, value, {"train.max_steps": value})
    else:
        report.same(theirs, value, "no limit")


def every_steps(key: str) -> Rule:
    def rule(report: Report, theirs: str, value: Any) -> None:
        if isinstance(value, int) and value >= 1:
            report.became(theirs, value, {key: value})
        else:
            report.lost(theirs, value, f"{NO_COUNTERPART}: {key} counts steps; auto is kept")

    return rule


def optimizer(report: Report, theirs: str, value: Any) -> None:
    if str(value) in _FORMER:
        report.same(theirs, value, "AdamW, in 32 bits")
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: AdamW trains the adapter")


def checkpointing(report: Report, theirs: str, value: Any) -> None:
    report.became(theirs, value, {"train.gradient_checkpointing": bool(value) and str(value).lower() != "false"})


def targets(report: Report, theirs: str, value: Any) -> None:
    names = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    if names in (["all"], ["all-linear"]):
        report.became(theirs, value, {"train.lora.target_modules": "all-linear"})
    elif isinstance(names, list) and all(isinstance(each, str) and re.fullmatch(r"[\w.-]+", each) for each in names):
        report.became(theirs, value, {"train.lora.target_modules": names})
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: train.lora.target_modules takes names of layers")


def dropout(report: Report, theirs: str, value: Any) -> None:
    report.became(theirs, value, {"train.lora.dropout": float(value or 0)})


def held_out(report: Report, theirs: str, value: Any) -> None:
    """A share that is held out; a whole number counts rows."""
    if isinstance(value, (int, float)) and 0 < value < 1:
        shares = {"train": round(1 - value, 9), "val": value, "test": 0.0}
        report.became(theirs, value, {"data.split": shares})
    elif value == 0:
        report.became(
            theirs, value, {"data.split": {"train": 1.0, "val": 0.0, "test": 0.0}}, "nothing is held out: no gate judges it"
        )
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: data.split takes shares, not counts of rows")


def remote_code(report: Report, theirs: str, value: Any) -> None:
    if value:
        report.lost(theirs, value, "never: no code of a repository is run")
    else:
        report.same(theirs, value, "never done")


def model(root: Path) -> Rule:
    """A model: a repository, or a folder or a file that is here."""

    def rule(report: Report, theirs: str, value: Any) -> None:
        name = str(value)
        if name.startswith(("/", "./", "../", "~")) or (root / name).exists():
            report.became(theirs, value, {"model.local_path": name})
            return
        bare = _QUANTIZED.sub("", name)
        note = f"{name} holds weights that are quantized already; its 16-bit ones are taken" if bare != name else ""
        report.became(theirs, value, {"model.repo": bare}, note)

    return rule


def precision(report: Report, given: Mapping[str, Any]) -> None:
    """How the weights are held, from the values that speak of it together; `given` holds those that are there."""
    bits = {"load_in_4bit": 4, "load_in_8bit": 8}
    named = next((bits[key] for key in given if key in bits and given[key]), None) or given.get("quantization_bit")
    half = given.get("fp16") is True and given.get("bf16") not in (True, "auto")
    mode = {4: "qlora_nf4", 8: "lora_int8"}.get(named or 0, "lora_fp16" if half else "lora_bf16")
    asked = {key: value for key, value in given.items() if key in _PRECISION and value not in (None, False)}
    report.became(
        ", ".join(asked) or "weights", ", ".join(map(str, asked.values())) or "not quantized", {"train.precision_mode": mode}
    )


_PRECISION = ("load_in_4bit", "load_in_8bit", "quantization_bit", "fp16", "bf16")
PRECISION = frozenset(_PRECISION)


def batch(report: Report, rows: Any, accumulation: Any, length: int, named: tuple[str, str]) -> None:
    """Rows of an optimizer step as tokens: here the micro-batch is what fits, and the step is counted in tokens."""
    if rows is None and accumulation is None:
        return
    theirs = " × ".join(named)
    value = f"{rows or 1} × {accumulation or 1}"
    if not all(isinstance(each or 1, int) for each in (rows, accumulation)):
        report.lost(theirs, value, f"{NO_COUNTERPART}: train.tokens_per_step_target auto is kept")
        return
    tokens = (rows or 1) * (accumulation or 1) * length
    note = "rows of max_seq_len as tokens of a step; the micro-batch is what fits"
    report.became(theirs, value, {"train.tokens_per_step_target": tokens}, note)


def take(report: Report, rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Every value by its rule; one without a rule is not taken over. Null says nothing."""
    for key, value in values.items():
        if value is None:
            report.same(str(key), None, "says nothing")
        elif key in rules:
            rules[key](report, str(key), value)
        else:
            report.lost(str(key), value)


_PLACES = done_anyway("runs and results have their own places: runs/, export.artifacts_dir")
_LOGGED = done_anyway("each step is in the run's log")
TRAINING: dict[str, Rule] = {
    "learning_rate": number("train.lr"),
    "num_train_epochs": number("train.epochs"),
    "max_steps": max_steps,
    "lr_scheduler_type": scheduler,
    "warmup_ratio": number("train.warmup_ratio"),
    "warmup_steps": warmup_steps,
    "weight_decay": number("train.weight_decay"),
    "max_grad_norm": number("train.grad_clip"),
    "seed": to("seed"),
    "data_seed": without("one seed settles all: seed"),
    "optim": optimizer,
    "gradient_checkpointing": checkpointing,
    "eval_steps": every_steps("train.eval_every_steps"),
    "save_steps": every_steps("train.save_every_steps"),
    "packing": to("data.packing"),
    "neat_packing": to("data.packing"),
    "output_dir": _PLACES,
    "overwrite_output_dir": done_anyway("a run never overwrites another"),
    "logging_steps": _LOGGED,
    "logging_dir": _LOGGED,
    "logging_first_step": _LOGGED,
    "plot_loss": done_anyway("the curves are in the app"),
    "do_train": done_anyway("train --train does"),
    "do_eval": done_anyway("held-out rows are judged"),
    "eval_strategy": done_anyway("held-out rows are judged as training goes on"),
    "evaluation_strategy": done_anyway("held-out rows are judged as training goes on"),
    "save_strategy": done_anyway("checkpoints are saved as training goes on"),
    "per_device_eval_batch_size": done_anyway("what fits into memory"),
    "save_total_limit": done_anyway("the best and the newest are kept"),
    "load_best_model_at_end": done_anyway("the best checkpoint is packed"),
    "group_by_length": done_anyway("rows are packed"),
    "dataloader_num_workers": done_anyway("chosen here"),
    "dataloader_pin_memory": done_anyway("chosen here"),
    "remove_unused_columns": done_anyway("what of a row is not used is named"),
    "tf32": done_anyway("chosen here"),
    "assistant_only_loss": only(True, "only answers are trained", f"{NO_COUNTERPART}: only answers are trained"),
    "completion_only_loss": only(True, "only answers are trained", f"{NO_COUNTERPART}: only answers are trained"),
    "use_liger_kernel": done_anyway("train.kernels chooses the kernels"),
    "ddp_timeout": without(_ONE_GPU),
    "ddp_find_unused_parameters": without(_ONE_GPU),
    "deepspeed": without(_ONE_GPU),
    "fsdp": without(_ONE_GPU),
    "fsdp_config": without(_ONE_GPU),
    "report_to": without("nothing is sent anywhere; the run's log is events.jsonl"),
    "run_name": without("a run is named by its project and time"),
    "push_to_hub": without("nothing is sent anywhere"),
    "resume_from_checkpoint": without("humigence train --train --resume goes on with a run"),
    "dataset_text_field": without("what is read of a row is data.schema and data.columns"),
    "dataset_num_proc": done_anyway("chosen here"),
    "trust_remote_code": remote_code,
}
LORA: dict[str, Rule] = {
    "r": to("train.lora.r"),
    "lora_alpha": to("train.lora.alpha"),
    "lora_dropout": dropout,
    "target_modules": targets,
    "use_rslora": to("train.lora.rslora"),
    "use_dora": to("train.lora.dora"),
    "bias": only("none", "biases are not trained", f"{NO_COUNTERPART}: biases are not trained"),
    "task_type": done_anyway("a language model"),
    "random_state": to("seed"),
    "use_gradient_checkpointing": checkpointing,
    "modules_to_save": without(f"{NO_COUNTERPART}: the adapter alone is trained"),
    "loftq_config": without(),
    "init_lora_weights": only(True, "the usual start", NO_COUNTERPART),
    "max_seq_length": to("data.max_seq_len"),
    "finetune_vision_layers": only(False, "its images are not trained", f"{NO_COUNTERPART}: its text is trained"),
    "finetune_language_layers": only(True, "its text is trained", NO_COUNTERPART),
    "finetune_attention_modules": done_anyway("train.lora.target_modules says which"),
    "finetune_mlp_modules": done_anyway("train.lora.target_modules says which"),
}
