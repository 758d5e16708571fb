"""Configs of the first Humigence load: what each of their keys and values is called today.

Each old spelling is translated to what the first Humigence did with it, and a note says what it became; keys that no longer mean
anything are named once, together. A config that is written today passes through unchanged.

It stays until version 1.0 removes it, with `tests/fixtures/old_configs`: till then people come from the first Humigence with a
file that says what they trained and how, and every old key of it would be refused as unknown. Only `config.file` uses it.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

Document = dict[str, Any]


@dataclass
class Reading:
    """A config as it is called today.

    Attributes:
        document: the config's JSON; what could not be translated is left as it was.
        notes: what each old spelling became, fit to be shown one a line.
        problems: (dotted key, why its value can't be taken over).
    """

    document: Document
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Moved:
    """A key with another name today. `value` translates; it raises `ValueError` with the reason when it can't."""

    to: str
    value: Callable[[Any], Any]


@dataclass(frozen=True)
class Gone:
    """A key that means nothing any more. `value` raises `ValueError` where leaving it out would change what was asked for."""

    why: str
    value: Callable[[Any], Any] = lambda value: value


def modernize(document: Mapping[str, Any]) -> Reading:
    """`document` in today's spelling. Never raises for what is in it: what makes no sense is left for the config model."""
    reading = Reading(_copied(document))
    _settle_sampling(reading)
    _settle_improvement(reading)
    gone = [key for key in GONE if _leave_out(reading, key)]
    for key, moved in MOVED.items():
        _move(reading, key, moved)
    was_old = bool(gone or reading.notes)
    for key, translate in _VALUES.items():
        _translate(reading, key, translate)
    if was_old:
        _settle_places(reading)
    if gone:
        reading.notes.append(f"no longer mean anything: {', '.join(gone)}" if len(gone) > 1 else why_gone(gone[0]))
    return reading


def today(key: str) -> str:
    """What a key is called today; itself where it is not an old one, "" where it means nothing any more."""
    if key in GONE:
        return ""
    return MOVED[key].to if key in MOVED else key


def why_gone(key: str) -> str:
    """Why a key of `GONE` means nothing any more."""
    return f"{key} no longer means anything: {GONE[key].why}"


# --------------------------------------------------------------------------------------------------- what became of it


def _same(value: Any) -> Any:
    return value


def _of(choices: Mapping[Any, Any]) -> Callable[[Any], Any]:
    """One of a few values; JSON's true is not the number 1."""

    def translate(value: Any) -> Any:
        for old, new in choices.items():
            if type(old) is type(value) and old == value:
                return new
        raise ValueError(f"takes {', '.join(map(json.dumps, choices))}")

    return translate


def _device(value: Any) -> str:
    """`compute.gpus` was a count; a list of indices is read too."""
    chosen = value[0] if isinstance(value, list) and len(value) == 1 else None
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        return str(chosen)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("takes the number of GPUs")
    if value > 1:
        raise ValueError("several GPUs are not in this version: take 1, or name one with compute.gpu")
    return "auto" if value else "cpu"


def _held_out_loss(value: Any) -> Any:
    if value not in ("val_loss", "eval_loss", "validation_loss"):
        raise ValueError("only the held-out loss (val_loss) can be followed; leave the key out")
    return value


def _percent(value: Any) -> Any:
    return _rounded(value / 100) if _is_number(value) else value


def _share_in_percent(value: Any) -> Any:
    """A percentage; below 0.1 it was meant as a share: nobody asks for a hundredth of a percent."""
    return _rounded(value * 100) if _is_number(value) and 0 < value < 0.1 else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _rounded(value: float) -> float:
    return round(value, 9)  # 0.07 × 100 is 7.000000000000001


MOVED: dict[str, Moved] = {
    "model.use_flash_attn": Moved("train.attention", _of({True: "auto", False: "sdpa"})),
    "compute.gpus": Moved("compute.gpu", _device),
    "data.data_schema": Moved("data.schema", _same),
    "data.collator_windowing": Moved("data.over_long", _of({"window": "window", "drop": "drop", True: "window", False: "drop"})),
    # The first Humigence sampled at `temperature_high`, or took the likeliest token.
    "eval.temperature_high": Moved("eval.temperature", _same),
    "eval.sampling_enabled": Moved("eval.temperature", _of({True: 0.7, False: 0.0})),
    "acceptance.min_val_loss_improvement": Moved("acceptance.min_val_improvement_pct", _share_in_percent),
    "acceptance.min_val_improvement_pct2": Moved("acceptance.min_val_improvement_pct", _same),
    "acceptance.throughput_jitter_pct": Moved("acceptance.jitter_threshold", _percent),
    "acceptance.curated_reasonable_threshold": Moved("acceptance.curated_threshold", _same),
    "acceptance.curated_reasonable_threshold_pct": Moved("acceptance.curated_threshold", _percent),
}

GONE: dict[str, Gone] = {
    "compute.gpu_type": Gone("the GPU is found and measured when a run starts; compute.gpu chooses one"),
    "data.real_mode_threshold": Gone("few rows and many are trained on alike"),
    "train.early_stopping.metric": Gone("the held-out loss is always what is followed", _held_out_loss),
    "eval.primary_metric": Gone("the held-out loss is always measured", _held_out_loss),
    "eval.temperature_low": Gone("no answer was ever sampled at it; eval.temperature is the one temperature"),
}


def _epochs(value: Any) -> Any:
    """`auto_≈1` is one epoch, `auto` too."""
    match = re.fullmatch(r"auto(?:_?[≈~]?(\d+(?:\.\d+)?))?", value.strip()) if isinstance(value, str) else None
    return value if match is None else float(match[1] or 1)


def _share(largest: int) -> Callable[[Any], Any]:
    """Thresholds were percentages up to `largest`; no share that anybody asks for is 2 or more."""
    return lambda value: _percent(value) if _is_number(value) and 2 <= value <= largest else value


def _template(value: Any) -> Any:
    """It stood in every file, whatever the model: today a model speaks by its own template."""
    return "auto" if value == "qwen_chat_basic_v1" else value


def _formats(value: Any) -> Any:
    """The first Humigence listed formats without the adapter, which is always among them."""
    if not isinstance(value, list) or not {"merged_fp16", "runtime_int8"}.intersection(filter(_is_text, value)):
        return value
    return value if "peft_adapter" in value else ["peft_adapter", *value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_VALUES: dict[str, Callable[[Any], Any]] = {
    "train.epochs": _epochs,
    "data.template": _template,
    "acceptance.jitter_threshold": _share(50),
    "acceptance.curated_threshold": _share(100),
    "export.formats": _formats,
}


# ----------------------------------------------------------------------------------- where two keys say one thing


def _settle_sampling(reading: Reading) -> None:
    """`sampling_enabled`, false where it was not given, chose between greedy answers and `temperature_high`."""
    section = _section(reading.document, "eval")
    if section is None or "temperature_high" not in section:
        return
    if section.get("sampling_enabled") is True:
        del section["sampling_enabled"]
        reading.notes.append("eval.sampling_enabled true is left out: eval.temperature above 0 says it")
    else:
        left = _shown(section.pop("temperature_high"))
        reading.notes.append(f"eval.temperature_high {left} is left out: without eval.sampling_enabled it had no effect")


def _settle_improvement(reading: Reading) -> None:
    """Both spellings of the improvement that is asked for stood in one file; the one in percent is the later."""
    section = _section(reading.document, "acceptance")
    names = ("min_val_improvement_pct", "min_val_improvement_pct2", "min_val_loss_improvement")
    if section is None:
        return
    if section.get(names[1], 0) is None:
        del section[names[1]]
    given = [name for name in names if name in section]
    for name in given[1:]:
        first, left = section[given[0]], section.pop(name)
        says = "says the same" if _share_in_percent(left) == _share_in_percent(first) else f"decides ({_shown(first)} percent)"
        reading.notes.append(f"acceptance.{name} {_shown(left)} is left out: acceptance.{given[0]} {says}")


def _settle_places(reading: Reading) -> None:
    """Places the first Humigence made up itself: the project's folder is added to the artifacts' today, a snapshot found."""
    document = reading.document
    project, places = document.get("project", "humigence"), _section(document, "export")
    folder = places.get("artifacts_dir") if places else None
    if isinstance(folder, str) and len(PurePosixPath(folder).parts) > 1 and PurePosixPath(folder).name == project:
        _put(reading, "export.artifacts_dir", folder, str(PurePosixPath(folder).parent))
    model = _section(document, "model")
    repo, path = (model.get("repo"), model.get("local_path")) if model else (None, None)
    if isinstance(repo, str) and isinstance(path, str) and f"/models--{repo.replace('/', '--')}/snapshots/" in path:
        _put(reading, "model.local_path", path, None)


# ----------------------------------------------------------------------------------------------------- how it is done

_DEEPEST_SECTION = 3


def _copied(document: Mapping[str, Any], depth: int = _DEEPEST_SECTION) -> Document:
    """The sections anew, what stands in them as it is: nothing here changes a value in place."""
    return {key: _copied(each, depth - 1) if isinstance(each, dict) and depth else each for key, each in document.items()}


def _section(document: Document, name: str) -> Document | None:
    """The section of a dotted name ("" is the whole), or None where it is not there or no object."""
    inner: Any = document
    for part in filter(None, name.split(".")):
        inner = inner.get(part) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else None


def _leave_out(reading: Reading, key: str) -> bool:
    name, _, last = key.rpartition(".")
    section = _section(reading.document, name)
    if section is None or last not in section:
        return False
    value = section.pop(last)
    try:
        GONE[key].value(value)
    except ValueError as error:
        reading.problems.append((key, f"{error}, not {_shown(value)}"))
        return False
    return True


def _move(reading: Reading, key: str, moved: Moved) -> None:
    name, _, last = key.rpartition(".")
    section = _section(reading.document, name)
    if section is None or last not in section:
        return
    old = section.pop(last)
    try:
        new = moved.value(old)
    except ValueError as error:
        reading.problems.append((key, f"{error}, not {_shown(old)}"))
        return
    target, _, name = moved.to.rpartition(".")
    inner = _made(reading.document, target)
    if inner is None or name in inner:
        reading.notes.append(f"{key} {_shown(old)} is left out: {moved.to} decides")
        return
    inner[name] = new
    reading.notes.append(f"{key} {_shown(old)} is {moved.to} {_shown(new)} now")


def _made(document: Document, name: str) -> Document | None:
    """The section of a dotted name, made where it is not there; None where something else stands."""
    inner: Any = document
    for part in name.split("."):
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            return None
    return typing.cast(Document, inner)


def _translate(reading: Reading, key: str, translate: Callable[[Any], Any]) -> None:
    name, _, last = key.rpartition(".")
    section = _section(reading.document, name)
    if section is not None and last in section:
        _put(reading, key, section[last], translate(section[last]))


def _put(reading: Reading, key: str, old: Any, new: Any) -> None:
    if new is old or (type(new) is type(old) and new == old):
        return
    name, _, last = key.rpartition(".")
    section = _section(reading.document, name)
    assert section is not None, "the old value was read from it"
    section[last] = new
    reading.notes.append(f"{key} {_shown(old)} is {_shown(new)} now")


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
