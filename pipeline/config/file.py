"""Config files: found, read with all their problems reported at once, changed by dotted key, saved atomically.

A config is looked for in the current folder first, then among the shipped ones. A shipped file is never written to: saving it
creates the same relative path in the current folder.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.common.errors import BadInput
from pipeline.common.files import write_json
from pipeline.common.strict_json import DuplicateKey, keys_once
from pipeline.config import follows, legacy
from pipeline.config.keys import allowed_values, every_key, field_at, section_at, takes_a_list
from pipeline.config.schema import Config

DEFAULT_CONFIG = "configs/humigence.basic.json"
# More than any real config; a wrong file (a model, a data set) is refused before it is parsed.
_MAX_BYTES = 1 << 20
# A key as people write it: where it really is.
SHORT_KEYS = {"lora": "train.lora", "early_stopping": "train.early_stopping"}
_SPLIT, _SPLIT_NAMES = "data.split", ("train", "val", "test")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a config. `key` is dotted: a setting, or a section whose settings contradict each other."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key or 'config'}: {self.message}"


def shipped(relative: str) -> Path:
    """A file of the installed package: `configs/…` or `demo/…`. Read only."""
    return Path(str(package_files("pipeline") / "shipped")) / relative


def find_file(path: str, root: Path) -> Path | None:
    """`path` below `root`, else the shipped file of that name, else None.

    Args:
        path: relative to `root`, or absolute.
    """
    candidates = (root / path, shipped(path))
    return next((file for file in candidates if file.is_file()), None)


@dataclass(frozen=True)
class Loaded:
    """A config that was read from a file; `notes` say what the spellings of an older Humigence became."""

    config: Config
    notes: tuple[str, ...]


def load(path: str, root: Path | None = None) -> Config:
    """The config of `load_noted`.

    Raises:
        BadInput: as `load_noted`.
    """
    return load_noted(path, root).config


def load_noted(path: str, root: Path | None = None) -> Loaded:
    """Read and check the config file `path`, relative to `root` (the current folder).

    Raises:
        BadInput: the file is missing, is not JSON, or has problems; all of them are reported at once.
    """
    root = root or Path.cwd()
    found = find_file(path, root)
    if found is None:
        raise BadInput(f"{path}: no such config file", "humigence init makes one; humigence config keys lists the settings")
    return _parsed(read_document(found), str(found))


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, every key once."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path}: larger than {_MAX_BYTES >> 20} MiB, so not a config file")
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=keys_once)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}", _how_to_mend(path)) from error
    except RecursionError as error:
        raise BadInput(f"{path}: nested too deeply") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except DuplicateKey as error:
        raise BadInput(f"{path}: not usable: {error}") from error
    except ValueError as error:  # Python refuses to read a number of thousands of digits
        raise BadInput(f"{path}: a number is too long") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: a config is a JSON object, this is a {type(document).__name__}")
    return document


def _how_to_mend(path: Path) -> str:
    """What to do with a file that is no JSON."""
    before = path.with_name(f"{path.name}.bak")
    if before.is_file():
        return f"mend that line, or take back what was there before: cp {shlex.quote(str(before))} {shlex.quote(str(path))}"
    return "mend that line, or move the file away: humigence init then writes a new one"


def parse(document: dict[str, Any], where: str) -> Config:
    """Check `document`; every problem in one `BadInput`, each with file, dotted key and what is allowed."""
    return _parsed(document, where).config


def _parsed(document: dict[str, Any], where: str) -> Loaded:
    config, notes, problems = _checked(document)
    if config is not None:
        return Loaded(config, notes)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    raise BadInput(f"{where}: {count}\n{lines}", "humigence config keys lists every setting and what is allowed")


def problems(document: dict[str, Any]) -> tuple[Problem, ...]:
    """All that is wrong with `document`, in the order of the settings; empty when it is a config."""
    return _checked(document)[2]


def _checked(document: dict[str, Any]) -> tuple[Config | None, tuple[str, ...], tuple[Problem, ...]]:
    """The config, or None and what is wrong; and what older spellings became."""
    reading = legacy.modernize(_with_short_keys(document))
    found = tuple(Problem(key, message) for key, message in reading.problems)
    try:
        config = Config.model_validate(reading.document)
    except ValidationError as error:
        wrong = _problems(error)
        named = {problem.key for problem in wrong}
        return None, (), (*wrong, *(problem for problem in found if problem.key not in named))
    return None if found else config, tuple(reading.notes), found


def _problems(error: ValidationError) -> tuple[Problem, ...]:
    details = error.errors(include_url=False)
    # Of a list whose parts are wrong pydantic says so of the whole too.
    inside = {detail["loc"][:end] for detail in details for end in range(1, len(detail["loc"]))}
    return tuple(dict.fromkeys(_problem(dict(detail)) for detail in details if detail["loc"] not in inside))


def _with_short_keys(document: dict[str, Any]) -> dict[str, Any]:
    """`lora` and `early_stopping` at the top level are read as the sections of `train` they mean."""
    result = dict(document)
    for short, full in SHORT_KEYS.items():
        if short not in result:
            continue
        section, name = full.split(".")
        inner = result.get(section, {})
        if isinstance(inner, dict) and name not in inner:
            result[section] = {**inner, name: result.pop(short)}
    return result


def _problem(detail: dict[str, Any]) -> Problem:
    """One line of pydantic's report as a problem of ours."""
    location = _dotted(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(location, f"unknown key{_nearest(location)}")
    if detail["type"] == "string_unicode":
        return Problem(location, "holds half a character (a lone surrogate)")
    value = detail.get("input")
    found = "" if isinstance(value, BaseModel) or value == "" else f", not {_short(value)}"
    field = field_at(location)
    allowed = allowed_values(field) if field else ""
    if detail["type"] == "value_error" or not allowed:
        message = detail["msg"].removeprefix("Value error, ")
        name, colon, rest = message.partition(": ")
        if colon and name.isidentifier() and field_at(f"{location}.{name}"):  # a section that says which of its settings
            return Problem(f"{location}.{name}", rest)
        return Problem(location, f"{message[:1].lower()}{message[1:]}")
    return Problem(location, f"must be {with_article(allowed)}{found}")


def with_article(allowed: str) -> str:
    """`a whole number ≥ 1`, inside a sentence."""
    return f"a {allowed}" if allowed.startswith(("whole number", "number", "list")) else allowed


def _dotted(location: tuple[str | int, ...]) -> str:
    """The dotted key of a pydantic location, without the union branches that pydantic adds at its end."""
    parts = [str(part) for part in location]
    while len(parts) > 1 and field_at(".".join(parts)) is None and field_at(".".join(parts[:-1])) is not None:
        if isinstance(section_at(".".join(parts[:-1])), type):
            break
        parts.pop()
    return ".".join(parts)


def _nearest(name: str) -> str:
    """ ", did you mean …?" with the closest known key, or nothing."""
    last = name.rsplit(".", 1)[-1]
    names = [key.name for key in every_key()]
    names += sorted({name.rpartition(".")[0] for name in names} - {""})
    by_last = {key.rsplit(".", 1)[-1]: key for key in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    close = close or [by_last[hit] for hit in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    return f", did you mean {close[0]}?" if close else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


# ---------------------------------------------------------------------------------------------- keys, by dotted name


def full_key(name: str) -> str:
    """The dotted name a person means: `lora.r` is `train.lora.r`, and an older name is today's.

    Raises:
        BadInput: it is an older name for what no longer means anything.
    """
    first, dot, rest = name.partition(".")
    key = f"{SHORT_KEYS[first]}{dot}{rest}" if first in SHORT_KEYS else name
    if not legacy.today(key):
        raise BadInput(legacy.why_gone(key), "humigence config keys lists the settings there are")
    return legacy.today(key)


def renamed(name: str) -> str:
    """What to say of an older name: `data.collator_windowing is data.over_long now`. Empty for one of today's."""
    return f"{name} is {legacy.today(name)} now" if name in legacy.MOVED else ""


def get(config: Config, name: str) -> Any:
    """The value (JSON) of a setting or of a whole section.

    Raises:
        BadInput: no such key; names the nearest.
    """
    value: Any = config.to_json()
    for part in full_key(name).split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadInput(f"{name}: unknown key{_nearest(full_key(name))}", "humigence config keys lists them")
        value = value[part]
    return value


def with_value(config: Config, name: str, text: str, where: str = "config set") -> Config:
    """The config of `with_value_noted`."""
    return with_value_noted(config, name, text, where).config


def with_value_noted(config: Config, name: str, text: str, where: str = "config set") -> Loaded:
    """A new config with one setting changed and what follows from it; `notes` say that, and what an older name or value became.

    Args:
        text: the value as typed: JSON, or plain text; for a list also its parts with commas or spaces between them; for a
            section an object of the keys to change together (`data.split '{"train": 0.9, "val": 0.05, "test": 0.05}'`), for
            `data.split` three numbers too.
    """
    key = full_key(name)
    get(config, key)  # or there is no such key
    problems = []
    for value in _readings(text, key):
        try:
            document, followed = _replaced(config, key, _todays_value(name, value))
            changed = _parsed(document, where)
            return Loaded(changed.config, tuple(filter(None, (renamed(name), *followed, *changed.notes))))
        except BadInput as error:
            problems.append(error)
    raise problems[0]


def _todays_value(name: str, value: Any) -> Any:
    """What a value that was given under an older name is under today's."""
    moved = legacy.MOVED.get(name)
    try:
        return moved.value(value) if moved else value
    except ValueError as error:
        raise BadInput(f"{name}: {error}, not {_short(value)}", f"humigence config set {full_key(name)} VALUE") from error


def _takes_a_list(key: str) -> bool:
    field = field_at(key)
    return field is not None and takes_a_list(field)


def _readings(text: str, key: str) -> Iterator[Any]:
    """What a typed value may mean, the likelier first: JSON, a list, plain text (`data.raw_path 7` names a file)."""
    with contextlib.suppress(json.JSONDecodeError, RecursionError):
        yield json.loads(text)
    if _takes_a_list(key):
        yield list_of(text)
        yield [text.strip()]
    if key == _SPLIT and (shares := _shares(text)):
        yield shares
    yield text


def list_of(text: str) -> list[str]:
    """A list as people type it: `a,b`, `a b`, `[a, b]`, `["a", "b"]`, `['a', 'b']`; of no text none."""
    with contextlib.suppress(json.JSONDecodeError, RecursionError):
        read = json.loads(text)
        if isinstance(read, list) and all(isinstance(part, str) for part in read):
            return read
    bare = text.strip()
    if bare[:1] + bare[-1:] in ("[]", "()"):
        bare = bare[1:-1]
    parts = bare.split(",") if "," in bare else bare.split()
    return [part.strip().strip("\"'").strip() for part in parts]


def _shares(text: str) -> dict[str, float] | None:
    """`0.7,0.2,0.1`, `80/10/10` or `8 1 1` as shares of train, val and test; None where it is no three numbers."""
    parts = text.replace("/", " ").replace(",", " ").split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) != len(_SPLIT_NAMES):
        return None
    whole = sum(numbers) if sum(numbers) > 1 + 1e-6 and all(number == int(number) for number in numbers) else 1
    return dict(zip(_SPLIT_NAMES, (number / whole for number in numbers), strict=True))


def _replaced(config: Config, key: str, value: Any) -> tuple[dict[str, Any], list[str]]:
    """The config's document with a value set and with what follows from it, and what that was, fit to be shown."""
    document = config.to_json()
    in_section = isinstance(_at(document, key), dict) and isinstance(value, dict)
    entries = {f"{key}.{name}": each for name, each in value.items()} if in_section else {key: value}
    now = {each: _at(document, each) for each in follows.ASKED}
    told = []
    for each, new in follows.with_what_follows(entries, now).items():
        if each not in entries and new != now[each]:
            told.append(f"{each} follows: {_short(now[each])} → {_short(new)}")
        section, _, last = each.rpartition(".")
        _at(document, section)[last] = new
    return document, told


def _at(document: dict[str, Any], key: str) -> Any:
    inner: Any = document
    for part in filter(None, key.split(".")):
        inner = inner[part]
    return inner


def save(config: Config, path: str, root: Path | None = None) -> Path:
    """Write the whole config to `path` below `root` (the current folder) and return where; the older file stays as `.bak`.

    Raises:
        OSError: the folder can't be written to.
    """
    target = (root or Path.cwd()) / path
    write_json(target, config.to_json(), keep_backup=True)
    return target
