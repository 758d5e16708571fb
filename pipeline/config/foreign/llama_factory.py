"""LLaMA-Factory: a training YAML, and `dataset_info.json`, which says how each data set is written.

Source: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md and examples/train_lora/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.foreign import arguments as shared
from pipeline.config.foreign.arguments import Rule, done_anyway, only, to, without
from pipeline.config.foreign.report import NO_COUNTERPART, Report

INFO = "dataset_info.json"
_SPEAKERS = frozenset({"human", "gpt", "observation", "function_call", "system", "user", "assistant", "tool"})
_TAGS = {"role_tag": ("from", "role"), "content_tag": ("value", "content")}
_OURS_OF_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}


def is_info(document: Any) -> bool:
    """Whether it is a `dataset_info.json`."""
    return (
        isinstance(document, dict)
        and bool(document)
        and all(isinstance(entry, dict) and _named(entry) for entry in document.values())
    )


def _named(entry: Mapping[str, Any]) -> bool:
    return bool(entry.keys() & {"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"})


def is_training(document: Mapping[str, Any]) -> bool:
    """Whether a YAML is a training config of theirs."""
    return "model_name_or_path" in document and bool(document.keys() & {"stage", "finetuning_type", "dataset", "template"})


# ----------------------------------------------------------------------------------------------------------- the data


def read_info(document: Mapping[str, Any], folder: Path, wanted: str | None) -> Report:
    """A data set of a `dataset_info.json`.

    Args:
        folder: of the file, where its files lie.
        wanted: which of its data sets; not needed where there is one.

    Raises:
        BadInput: there are several, or there is none of that name.
    """
    report = Report("LLaMA-Factory, dataset_info.json")
    if wanted is None and len(document) > 1:
        raise BadInput(f"{INFO} has {len(document)} data sets: {_listed(document)}", "--dataset NAME takes one of them")
    add_entry(report, document, wanted or next(iter(document)), folder)
    return report


def _listed(document: Mapping[str, Any]) -> str:
    names = list(document)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def add_entry(report: Report, document: Mapping[str, Any], name: str, folder: Path) -> None:
    """Take over an entry. Raises `BadInput` where there is none of that name."""
    if name not in document:
        raise BadInput(f"{INFO} has no data set {name!r}: {_listed(document)}", "--dataset NAME takes one of them")
    entry = document[name]
    _place(report, entry, folder)
    columns, tags = entry.get("columns") or {}, entry.get("tags") or {}
    sharegpt = entry.get("formatting", "alpaca") in ("sharegpt", "openai")
    if entry.get("ranking"):
        report.became("ranking", True, {"data.schema": "preference"}, "the chosen answer is trained, the rejected one left out")
    if sharegpt:
        _conversations(report, entry, columns, tags)
    else:
        _questions(report, entry, columns)
    done = {"file_name", "hf_hub_url", "split", "subset", "revision", "formatting", "columns", "tags", "ranking"}
    others: dict[str, Rule] = {
        "num_samples": without(f"{NO_COUNTERPART}: all rows are read"),
        "file_sha1": without("the sha256 of the rows is in the report"),
        "script_url": without("never: no script of a stranger is run"),
        "load_from": done_anyway("its own place is taken"),
        "ms_hub_url": without(f"{NO_COUNTERPART}: data.hub is the Hugging Face hub"),
    }
    shared.take(report, others, {key: value for key, value in entry.items() if key not in done})


def _place(report: Report, entry: Mapping[str, Any], folder: Path) -> None:
    if entry.get("hf_hub_url"):
        settings = {"data.source": "hub", "data.hub.repo": entry["hf_hub_url"]}
        settings |= {f"data.hub.{key}": entry[key] for key in ("subset", "split", "revision") if entry.get(key)}
        report.became("hf_hub_url", entry["hf_hub_url"], settings)
        if entry.get("file_name"):
            report.lost("file_name", entry["file_name"], "the data set of the hub is taken")
    elif entry.get("file_name"):
        path = folder / str(entry["file_name"])
        report.became("file_name", entry["file_name"], {"data.source": "local", "data.raw_path": str(path)})
    else:
        report.needed.append("where the rows are: humigence config set data.raw_path PATH")


def _questions(report: Report, entry: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Alpaca's form: a column for the question, one for the answer."""
    pair = bool(entry.get("ranking"))
    if not pair:
        has_answer = not columns or "response" in columns
        name = "alpaca" if has_answer else "text"
        report.became("formatting", entry.get("formatting", "alpaca"), {"data.schema": name})
        if not has_answer:
            return _renamed(report, columns, {"prompt": "text"})
    ours = (
        {"prompt": "instruction", "query": "input", "system": "system", "history": "history", **_PAIR}
        if pair
        else _OURS_OF_ALPACA
    )
    return _renamed(report, columns, ours)


def _conversations(report: Report, entry: Mapping[str, Any], columns: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
    """ShareGPT's form, and OpenAI's: a list of messages."""
    messages = str(columns.get("messages", "conversations"))
    role = tags.get("role_tag", "role" if entry.get("formatting") == "openai" else "from")
    if not entry.get("ranking"):
        name, key = ("chat_messages", "messages") if role == "role" and messages == "messages" else ("sharegpt", "conversations")
        report.became("formatting", entry["formatting"], {"data.schema": name})
        _renamed(report, columns, {"messages": key, "system": "system", "tools": "tools"})
    else:
        _renamed(report, columns, {"messages": "conversations", "system": "system", "tools": "tools", **_PAIR})
    for tag, value in tags.items():
        if value in _TAGS.get(tag, ()) or (tag not in _TAGS and value in _SPEAKERS):
            report.same(f"tags.{tag}", value, "known")
        else:
            report.lost(f"tags.{tag}", value, f"{NO_COUNTERPART}: write the rows anew with from/value or role/content")


def _renamed(report: Report, columns: Mapping[str, Any], ours: Mapping[str, str]) -> None:
    """Columns under other names than our schema's become `data.columns`."""
    pairs = []
    for theirs, column in columns.items():
        if theirs not in ours:
            report.lost(
                f"columns.{theirs}",
                column,
                "is left out" if theirs not in ("images", "videos", "audios") else "its text is trained",
            )
        elif ours[theirs] == column:
            report.same(f"columns.{theirs}", column, "has that name here too")
        else:
            pairs.append(f"{ours[theirs]}={column}")
    if pairs:
        before = report.settings.get("data.columns", [])
        report.became("columns", dict(columns), {"data.columns": [*before, *pairs]})


# --------------------------------------------------------------------------------------------------- the training YAML


def _stage(report: Report, theirs: str, value: Any) -> None:
    if value == "sft":
        report.same(theirs, value, "what is done here")
    elif value == "pt":
        report.became(theirs, value, {"data.schema": "text"}, "texts, every token trained")
    else:
        report.lost(theirs, value, f"{NO_COUNTERPART}: answers are trained (sft), or texts (pt)")


def _template(report: Report, theirs: str, value: Any) -> None:
    if value in ("alpaca", "chatml", "zephyr"):
        report.became(theirs, value, {"data.template": value})
    else:
        report.same(theirs, value, "data.template auto takes the model's own chat template")


def _thinking(report: Report, theirs: str, value: Any) -> None:
    report.became(theirs, value, {"data.thinking": "on" if value else "off"})


def _history(report: Report, theirs: str, value: Any) -> None:
    report.became(theirs, value, {"data.train_on": "last" if value else "all"})


_RULES: dict[str, Rule] = {
    **shared.TRAINING,
    "stage": _stage,
    "template": _template,
    "enable_thinking": _thinking,
    "mask_history": _history,
    "cutoff_len": to("data.max_seq_len"),
    "finetuning_type": only("lora", "an adapter is trained", f"{NO_COUNTERPART}: an adapter is trained"),
    "lora_rank": to("train.lora.r"),
    "lora_alpha": to("train.lora.alpha"),
    "lora_dropout": shared.dropout,
    "lora_target": shared.targets,
    "use_rslora": to("train.lora.rslora"),
    "use_dora": to("train.lora.dora"),
    "val_size": shared.held_out,
    "quantization_method": only("bnb", "bitsandbytes", f"{NO_COUNTERPART}: bitsandbytes quantizes"),
    "quantization_type": only("nf4", "NF4", f"{NO_COUNTERPART}: NF4 or 8 bits"),
    "double_quantization": done_anyway("done"),
    "adapter_name_or_path": without(f"{NO_COUNTERPART}: an adapter begins anew"),
    "max_samples": without(f"{NO_COUNTERPART}: all rows are read"),
    "overwrite_cache": done_anyway("rows are prepared anew when anything changes"),
    "preprocessing_num_workers": done_anyway("chosen here"),
    "flash_attn": done_anyway("train.attention chooses"),
    "train_on_prompt": only(False, "only answers are trained", f"{NO_COUNTERPART}: only answers are trained"),
    "dataset_dir": done_anyway("where dataset_info.json was looked for"),
    "save_only_model": done_anyway("a checkpoint can be resumed"),
    "eval_dataset": without("name its file: humigence config set data.val_path PATH, else rows are held out by data.split"),
    "neftune_noise_alpha": without(),
    "hf_hub_token": without("never in a config: set HF_TOKEN"),
    "model_revision": to("model.revision"),
}


def read_training(document: Mapping[str, Any], folder: Path, wanted: str | None) -> Report:
    """A training YAML. Raises `BadInput` as `read_info`."""
    report = Report("LLaMA-Factory, training config")
    rules = {**_RULES, "model_name_or_path": shared.model(folder)}
    apart = {"dataset", "per_device_train_batch_size", "gradient_accumulation_steps", "lora_alpha", *shared.PRECISION}
    shared.take(report, rules, {key: value for key, value in document.items() if key not in apart})
    # Their default is twice the rank.
    alpha = document.get("lora_alpha")
    if alpha is not None:
        _RULES["lora_alpha"](report, "lora_alpha", alpha)
    elif isinstance(rank := document.get("lora_rank", 8), int):
        report.became("lora_alpha", "not given: twice the rank", {"train.lora.r": rank, "train.lora.alpha": 2 * rank})
    shared.precision(report, {key: document[key] for key in document if key in shared.PRECISION})
    length = document.get("cutoff_len", 2048)
    if "cutoff_len" not in document:
        report.became("cutoff_len", "not given: 2048", {"data.max_seq_len": 2048})
    named = ("per_device_train_batch_size", "gradient_accumulation_steps")
    shared.batch(report, document.get(named[0]), document.get(named[1]), length, named)
    _data(report, document, folder, wanted)
    return report


def _data(report: Report, document: Mapping[str, Any], folder: Path, wanted: str | None) -> None:
    named = document.get("dataset")
    names = [each.strip() for each in named.split(",")] if isinstance(named, str) else [str(each) for each in named or ()]
    if not names:
        report.needed.append("which rows: humigence config set data.raw_path PATH")
        return
    name = wanted or names[0]
    if left := [each for each in names if each != name]:
        report.lost("dataset", ", ".join(left), f"one data set is taken: {name}; --dataset NAME takes another")
    places = [
        folder / str(document.get("dataset_dir", "data")),
        Path(str(document.get("dataset_dir", "data"))),
        folder,
        folder / "data",
    ]
    info = next((place / INFO for place in places if (place / INFO).is_file()), None)
    if info is not None:
        report.same("dataset", name, f"as {info} says")
        add_entry(report, read_json_object(info), name, info.parent)
    elif (folder / name).is_file() or Path(name).suffix:
        report.became("dataset", name, {"data.source": "local", "data.raw_path": name})
    else:
        report.lost("dataset", name, f"{INFO} is not beside it, so what it stands for is not known")
        report.needed.append("which rows: humigence config set data.raw_path PATH, or config import dataset_info.json")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `BadInput`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: not a JSON object")
    return document
