"""A script or a notebook that trains with Unsloth or TRL: its calls are read from the syntax tree. Nothing of it is run.

A value is known where it is written there: a constant, a name that is bound once to one, lists and sums of such. What the script
computes is said to be computed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.foreign import arguments as shared
from pipeline.config.foreign.arguments import Rule, done_anyway, only, to, without
from pipeline.config.foreign.report import NO_COUNTERPART, Report

_TRAINERS = ("SFTTrainer", "UnslothTrainer", "Trainer")
_ARGUMENTS = ("SFTConfig", "TrainingArguments", "UnslothTrainingArguments")
_LOADERS = ("FastLanguageModel", "FastModel", "FastVisionModel", "AutoModelForCausalLM", "FastLlamaModel")
_FILES = ("json", "csv", "parquet", "arrow", "text")
_COMPUTED = "is computed by the script"
_MOST_DEPTH = 20


class Computed:
    """A value that only running the script would tell: its text."""

    def __init__(self, node: ast.expr) -> None:
        self.text = ast.unparse(node)[:80]


def is_script(tree: ast.AST) -> bool:
    """Whether a program trains with one of the libraries."""
    return any(_called(call) in _KNOWN for call in _calls(tree))


def parse(text: str, name: str) -> ast.Module:
    """The syntax tree of a script, or of the code in a notebook. Raises `BadInput` where it is no Python."""
    try:
        source = _of_notebook(text) if name.endswith(".ipynb") else text
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise BadInput(
            f"{name}: cannot be read as Python ({type(error).__name__})", "a script (.py) or a notebook (.ipynb) is read"
        ) from error


def _of_notebook(text: str) -> str:
    """Its code cells one after the other; a cell of magic is left out, and lines for the shell."""
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell.get("cell_type") == "code"]
    sources = ["".join(cell) if isinstance(cell, list) else cell for cell in cells]
    kept = []
    for source in sources:
        lines = ["" if line.lstrip().startswith(("!", "%")) else line for line in source.splitlines()]
        cell = "\n".join(lines)
        try:
            ast.parse(cell)
        except SyntaxError:  # shell lines inside a block
            continue
        kept.append(cell)
    return "\n".join(kept)


def read(tree: ast.Module, folder: Path) -> Report:
    """What the script asks for."""
    report = Report("script (Unsloth, TRL)")
    names = _constants(tree)
    found: dict[str, Any] = {}
    for call in _calls(tree):
        reader = _KNOWN.get(_called(call))
        if reader is not None:
            reader(report, _arguments(call, names), found, folder)
    _together(report, found)
    return report


def _called(call: ast.Call) -> str:
    """`SFTTrainer`, `FastLanguageModel.from_pretrained`, `load_dataset`."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        return f"{owner}.{function.attr}" if owner in _LOADERS else function.attr
    return ""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """In the order of the lines."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return iter(sorted(found, key=lambda call: (call.lineno, call.col_offset)))


# -------------------------------------------------------------------------------------------------- what is written there


def _constants(tree: ast.Module) -> dict[str, ast.expr | None]:
    """Names that are bound once, and to what; None for those bound more often."""
    bound: dict[str, ast.expr | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            bound[name] = None if name in bound else node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            bound[node.target.id] = None if node.target.id in bound else node.value
    return bound


def _arguments(call: ast.Call, names: Mapping[str, ast.expr | None]) -> dict[str, Any]:
    """Keyword -> value, those without a keyword by their place (`0`)."""
    given = {str(place): _value(node, names) for place, node in enumerate(call.args)}
    return {**given, **{word.arg: _value(word.value, names) for word in call.keywords if word.arg}}


def _value(node: ast.expr, names: Mapping[str, ast.expr | None], depth: int = 0) -> Any:
    if depth > _MOST_DEPTH:
        return Computed(node)
    if isinstance(node, ast.Name) and names.get(node.id) is not None:
        return _value(names[node.id], names, depth + 1)  # type: ignore[arg-type]
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(each, names, depth + 1) for each in node.elts]
        return Computed(node) if any(isinstance(each, Computed) for each in values) else values
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Add, ast.Div)):
        return _sum(node, names, depth)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Computed(node)


def _sum(node: ast.BinOp, names: Mapping[str, ast.expr | None], depth: int) -> Any:
    left, right = (_value(side, names, depth + 1) for side in (node.left, node.right))
    if not all(isinstance(side, (int, float)) and abs(side) < 1e12 for side in (left, right)):
        return Computed(node)
    if isinstance(node.op, ast.Div):
        return left / right if right else Computed(node)
    return left * right if isinstance(node.op, ast.Mult) else left + right


# --------------------------------------------------------------------------------------------------------------- calls


def _taken(report: Report, rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Computed):
            known = key in rules
            report.lost(key, value.text, f"{_COMPUTED}: set it yourself" if known else NO_COUNTERPART)
        else:
            shared.take(report, rules, {key: value})


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


_LOADING: dict[str, Rule] = {
    "max_seq_length": to("data.max_seq_len"),
    "dtype": done_anyway("train.precision_mode says it"),
    "torch_dtype": done_anyway("train.precision_mode says it"),
    "device_map": done_anyway("one GPU trains"),
    "full_finetuning": only(False, "an adapter is trained", f"{NO_COUNTERPART}: an adapter is trained"),
    "token": without("never in a config: set HF_TOKEN"),
    "attn_implementation": done_anyway("train.attention chooses"),
    "trust_remote_code": shared.remote_code,
    "revision": to("model.revision"),
    "use_cache": done_anyway("not while training"),
    "fast_inference": without(),
    "gpu_memory_utilization": without(),
    "max_lora_rank": without(),
    "quantization_config": done_anyway("as its own call says"),
}


def _model(report: Report, values: Mapping[str, Any], found: dict[str, Any], folder: Path) -> None:
    name = values.get("model_name", values.get("pretrained_model_name_or_path", values.get("0")))
    if isinstance(name, str):
        shared.model(folder)(report, "model_name", name)
        found["model"] = True
    elif isinstance(name, Computed):
        report.lost("model_name", name.text, f"{_COMPUTED}: set it yourself")
    _precision_of(values, found)
    found["length"] = values.get("max_seq_length", found.get("length"))
    _taken(report, _LOADING, _without(values, "model_name", "pretrained_model_name_or_path", "0", *shared.PRECISION))


def _adapter(report: Report, values: Mapping[str, Any], _found: dict[str, Any], _folder: Path) -> None:
    _taken(report, shared.LORA, _without(values, "0", "1", "model", "peft_config"))


def _quantized(_report: Report, values: Mapping[str, Any], found: dict[str, Any], _folder: Path) -> None:
    _precision_of(values, found)


def _precision_of(values: Mapping[str, Any], found: dict[str, Any]) -> None:
    found.setdefault("precision", {}).update(
        {key: value for key, value in values.items() if key in shared.PRECISION and not isinstance(value, Computed)}
    )


def _training(report: Report, values: Mapping[str, Any], found: dict[str, Any], _folder: Path) -> None:
    named = ("per_device_train_batch_size", "gradient_accumulation_steps")
    found["batch"] = [values.get(key) for key in named]
    length = next((key for key in ("max_length", "max_seq_length") if key in values), "")
    if length and isinstance(values[length], int):
        report.became(length, values[length], {"data.max_seq_len": values[length]})
        found["length"] = values[length]
    _precision_of(values, found)
    computed = {key: value for key, value in values.items() if key in shared.PRECISION and isinstance(value, Computed)}
    for key, value in computed.items():
        report.same(key, value.text, "train.precision_mode says it")
    _taken(report, shared.TRAINING, _without(values, *named, "max_length", "max_seq_length", *shared.PRECISION))


_OF_TRAINER = done_anyway("as its own call says")
_GIVEN: dict[str, Rule] = {
    **shared.TRAINING,
    "max_seq_length": to("data.max_seq_len"),
    "dataset_text_field": shared.TRAINING["dataset_text_field"],
    **dict.fromkeys(("model", "tokenizer", "processing_class", "args", "train_dataset", "peft_config"), _OF_TRAINER),
    "eval_dataset": without("name its file: humigence config set data.val_path PATH, else rows are held out by data.split"),
    "data_collator": done_anyway("only answers are trained"),
    "formatting_func": without("the model's chat template writes the rows"),
    "callbacks": without(),
    "compute_metrics": without(),
}


def _trainer(report: Report, values: Mapping[str, Any], found: dict[str, Any], _folder: Path) -> None:
    if isinstance(values.get("max_seq_length"), int):
        found["length"] = values["max_seq_length"]
    passed = ("model", "tokenizer", "processing_class", "args", "train_dataset", "peft_config")  # objects that other calls made
    _taken(report, _GIVEN, _without(values, *passed, "0"))


def _data(report: Report, values: Mapping[str, Any], found: dict[str, Any], folder: Path) -> None:
    path, inside, split = values.get("path", values.get("0")), values.get("data_files"), values.get("split")
    if isinstance(inside, dict):
        inside = inside.get("train", next(iter(inside.values()), None))
    files = [inside] if isinstance(inside, str) else inside
    if found.get("data"):
        report.lost("load_dataset", _text(path), "one data set is taken, the first")
        return
    if not isinstance(path, str) or isinstance(inside, Computed):
        report.lost(
            "load_dataset", _text(path), f"{_COMPUTED}: humigence config set data.raw_path PATH, or data.hub.repo OWNER/NAME"
        )
        return
    found["data"] = True
    if path in _FILES and files:
        report.became("load_dataset", inside, {"data.source": "local", "data.raw_path": str(files[0])})
        if len(files) > 1:
            report.lost("data_files", files[1:], "put them into one folder, and give that as data.raw_path")
        return
    settings: dict[str, Any] = {"data.source": "hub", "data.hub.repo": path}
    given = {"data.hub.subset": values.get("name", values.get("1")), "data.hub.revision": values.get("revision")}
    settings |= {key: value for key, value in given.items() if isinstance(value, str)}
    if isinstance(split, str) and split.isidentifier():
        settings["data.hub.split"] = split
    report.became("load_dataset", path, settings)
    if split is not None and "data.hub.split" not in settings:
        report.lost("split", _text(split), "all rows of a split are read")


def _text(value: Any) -> Any:
    return value.text if isinstance(value, Computed) else value


def _template(report: Report, values: Mapping[str, Any], _found: dict[str, Any], _folder: Path) -> None:
    name = values.get("chat_template", values.get("1"))
    report.same("get_chat_template", _text(name), "data.template auto takes the model's own chat template")


def _answers_only(report: Report, values: Mapping[str, Any], _found: dict[str, Any], _folder: Path) -> None:
    report.same("train_on_responses_only", True, "only answers are trained")


def _together(report: Report, found: Mapping[str, Any]) -> None:
    """What several calls say of one thing."""
    if not found.get("model"):
        report.needed.append("the base model: humigence config set model.repo OWNER/NAME")
    if not found.get("data"):
        report.needed.append("which rows: humigence config set data.raw_path PATH, or data.hub.repo OWNER/NAME")
    shared.precision(report, found.get("precision", {}))
    length = found.get("length")
    named = ("per_device_train_batch_size", "gradient_accumulation_steps")
    rows, accumulation = (None if isinstance(each, Computed) else each for each in found.get("batch", (None, None)))
    shared.batch(report, rows, accumulation, length if isinstance(length, int) else 1024, named)


_Reader = Callable[[Report, Mapping[str, Any], dict[str, Any], Path], None]
_KNOWN: dict[str, _Reader] = {
    **{f"{loader}.from_pretrained": _model for loader in _LOADERS},
    **{f"{loader}.get_peft_model": _adapter for loader in _LOADERS},
    "LoraConfig": _adapter,
    "BitsAndBytesConfig": _quantized,
    "load_dataset": _data,
    "get_chat_template": _template,
    "train_on_responses_only": _answers_only,
    **dict.fromkeys(_ARGUMENTS, _training),
    **dict.fromkeys(_TRAINERS, _trainer),
}
