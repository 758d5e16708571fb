"""Which results the value of a setting goes into, as each setting declares it itself (`affects`), and those values as JSON.

A result is found again by a fingerprint of what it was made from: some settings, and the digests of files. Whoever takes one
asks for its settings here, so that a new setting goes into every fingerprint that it names and into no other. What a setting
merely leads to (the base model, a chat template, the raw file, the prompts) goes in by its contents, and a result that rests on
another by that one's fingerprint: the rows' settings are not the adapter's.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from pipeline.config.keys import fields
from pipeline.config.schema import Config, Result

Document = dict[str, Any]


@cache
def affected() -> dict[str, tuple[Result, ...]]:
    """Dotted key of each setting, as a config file has it -> the results whose fingerprints change with its value."""
    return {name: tuple(cast(dict[str, Any], field.json_schema_extra)["affects"]) for name, field in fields()}


@cache
def at_default_left_out() -> dict[str, Any]:
    """Dotted key of each setting that came after 0.1.0 -> its default, as JSON: the value that results of before stand for."""
    defaults = Config().to_json()
    return {name: _value(defaults, name) for name, field in fields() if cast(dict[str, Any], field.json_schema_extra)["since"]}


@cache
def stood_for() -> dict[str, tuple[Any, Any]]:
    """Dotted key of each setting whose default has changed to one that finds out -> (the default, the one of before)."""
    defaults = Config().to_json()
    extras = ((name, cast(dict[str, Any], field.json_schema_extra)["stood_for"]) for name, field in fields())
    return {name: (_value(defaults, name), before) for name, before in extras if before is not None}


def settings_of(config: Config, result: Result) -> Document:
    """The settings that affect `result`, in their sections as in a config file; sections without any are not there.

    A setting that came after 0.1.0 is there only with another value than its default.
    """
    chosen: Document = {}
    whole, left_out = config.to_json(), at_default_left_out()
    for name, results in affected().items():
        if result in results:
            *sections, last = name.split(".")
            if name in left_out and _value(whole, name) == left_out[name]:
                continue
            source, target = whole, chosen
            for section in sections:
                source, target = source[section], target.setdefault(section, {})
            now, before = stood_for().get(name, (None, None))
            target[last] = before if before is not None and source[last] == now else source[last]
    return chosen


def in_order(settings: Document, *first: str) -> list[Any]:
    """The values of settings one after the other, for a fingerprint.

    What was made by an older version is found as long as the values that it knew stand where they stood; those it did not know
    come after them, in one object.

    Args:
        settings: as `settings_of` gives them; not changed.
        first: dotted keys of settings or whole sections.

    Raises:
        KeyError: one of `first` is not among the settings.
    """
    left = _copied(settings)
    values = [_taken(left, name) for name in first]
    rest = _without_empty(left)
    return [*values, rest] if rest else values


def _value(document: Document, name: str) -> Any:
    for part in name.split("."):
        document = document[part]
    return document


def _copied(document: Document) -> Document:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in document.items()}


def _taken(document: Document, name: str) -> Any:
    *sections, last = name.split(".")
    for section in sections:
        document = document[section]
    return document.pop(last)


def _without_empty(document: Document) -> Document:
    inner = {name: _without_empty(value) if isinstance(value, dict) else value for name, value in document.items()}
    return {name: value for name, value in inner.items() if value != {}}
