"""A sweep: settings that are given several values, and a config for every combination of them.

`train.lr=1e-4,2e-4` has two values, `train.lora.r=8` one that all share. Each config of a sweep has a project of its own, named
after what it differs in: one run at a time works in a project, and a package belongs to one.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.common.errors import BadInput
from pipeline.common.files import fingerprint
from pipeline.config import file as config_file
from pipeline.config.keys import field_at, section_at, takes_a_list
from pipeline.config.schema import Config

MOST_RUNS = 64
_EXAMPLE = "--set train.lr=1e-4,2e-4 --set train.lora.r=8,16"
_OPENING, _CLOSING = "[{(", "]})"
_LONGEST_NAME = 64  # of a project, see `Config.project`

Assignment = tuple[str, tuple[str, ...]]
"""Dotted key, and the values it is given, as typed."""


@dataclass(frozen=True)
class Point:
    """One combination. `differs`: (dotted key, value as typed) of the settings that have several values in the sweep."""

    config: Config
    differs: tuple[tuple[str, str], ...]


def assignments(texts: Sequence[str]) -> tuple[Assignment, ...]:
    """What `KEY=VALUE,VALUE` says. A comma divides the values, a semicolon those with commas of their own (`data.split`).

    Raises:
        BadInput: no such key, a key twice, no value, or more combinations than `MOST_RUNS`.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text}: must be KEY=VALUE, or KEY=VALUE,VALUE", _EXAMPLE)
        key = config_file.full_key(name.strip())
        config_file.get(Config(), key)  # or there is no such key
        if key in found:
            raise BadInput(f"--set {key} is given twice", f"all its values in one: --set {key}={','.join(found[key])},{values}")
        found[key] = tuple(_divided(values, ";" if _has_commas(key) else ","))
        if not all(found[key]):
            raise BadInput(f"--set {text}: a value is empty", _EXAMPLE)
    made = math.prod(map(len, found.values()))
    if made > MOST_RUNS:
        counts = " × ".join(str(len(values)) for values in found.values() if len(values) > 1)
        raise BadInput(f"--set makes {made:,} runs ({counts}); at most {MOST_RUNS} are queued at once", "give fewer values")
    return tuple(found.items())


def points(base: Config, given: Sequence[Assignment], where: str) -> list[Point]:
    """A config for every combination, the last key changing fastest.

    Args:
        where: the file of `base`, for messages.

    Raises:
        BadInput: values that are not allowed, each named once; or two combinations that are the same run.
    """
    swept = [key for key, values in given if len(values) > 1]
    problems: dict[str, str] = {}
    found: list[Point] = []
    combinations = list(itertools.product(*(values for _, values in given)))
    for values in combinations:
        settings = list(zip((key for key, _ in given), values, strict=True))
        try:
            config = _with_all(base, settings, where)
        except BadInput as error:
            problems[error.message] = error.hint
            continue
        found.append(Point(config, tuple((key, value) for key, value in settings if key in swept)))
    if problems:
        told = "\n".join(f"  {problem}" for problem in "\n".join(problems).splitlines())
        count = len(combinations) - len(found)
        raise BadInput(f"--set: {count} of {len(combinations)} runs can't be made\n{told}", next(iter(problems.values())))
    _require_different(found)
    return found if "project" in swept or not swept else [_apart(point) for point in found]


def _with_all(config: Config, settings: Sequence[tuple[str, str]], where: str) -> Config:
    """All of `settings`; the other way round where they fit together only in that order (a shorter text, then its overlap)."""
    try:
        return _in_turn(config, settings, where)
    except BadInput as as_typed:
        try:
            return _in_turn(config, settings[::-1], where)
        except BadInput:
            raise as_typed from None


def _in_turn(config: Config, settings: Sequence[tuple[str, str]], where: str) -> Config:
    for key, value in settings:
        config = config_file.with_value(config, key, value, where=f"{where} with {key}={value}")
    return config


def _require_different(found: Sequence[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in found:
        document = json.dumps(point.config.to_json(), sort_keys=True)
        if document in seen:
            first, second = text_of(seen[document].differs), text_of(point.differs)
            raise BadInput(f"--set: {first} and {second} are the same run", "give each value once")
        seen[document] = point


def text_of(differs: Sequence[tuple[str, str]]) -> str:
    """`lr=1e-4 r=8`: keys by their last part."""
    return " ".join(f"{short_key(key)}={value}" for key, value in differs)


def short_key(key: str) -> str:
    return key.rpartition(".")[2]


# ---------------------------------------------------------------------------------------------------- projects


def _apart(point: Point) -> Point:
    """With a project of its own: `support-lr1e-4-r8`, the same each time the same sweep is made."""
    base = point.config.project
    name = base + "".join(f"-{short_key(key)}{_in_a_name(value)}" for key, value in point.differs)
    exact = name == base + "".join(f"-{short_key(key)}{value}" for key, value in point.differs)
    if len(name) > _LONGEST_NAME or not exact:
        digest = fingerprint(*point.differs)[:8]  # what a name can't hold is told apart by it
        name = f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
    return Point(point.config.model_copy(update={"project": name}), point.differs)


def _in_a_name(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", value).strip("_") or "_"


# ------------------------------------------------------------------------------------------------------ values


def _has_commas(key: str) -> bool:
    field = field_at(key)
    return section_at(key) is not None or (field is not None and takes_a_list(field))


def _divided(text: str, mark: str) -> Iterator[str]:
    """The parts of `text` between `mark`s; none is seen inside brackets or double quotes."""
    depth, quoted, part = 0, False, ""
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in _OPENING) - (character in _CLOSING)
        if character == mark and depth <= 0 and not quoted:
            yield part.strip()
            part = ""
        else:
            part += character
    yield part.strip()
