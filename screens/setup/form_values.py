"""A config being written: what was entered field by field, what is wrong with it, and the config it makes.

The fields are read from the config model, so a setting added there appears in the form by itself. Nothing here draws; the form
in `widgets/config_form` shows a draft and enters into it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.config import file as config_file
from pipeline.config import follows
from pipeline.config import keys as config_keys
from pipeline.config.schema import Config, Level, SourceItem

# How a setting is entered: one of a few values, several of a few, a list of names, a number, any text.
ControlKind = Literal["choice", "choices", "list", "number", "text", "json"]


@dataclass(frozen=True)
class Field:
    """One setting as a form shows it.

    Attributes:
        key: dotted name.
        options: the values (JSON) a choice has; for a number or a list the literals it takes too (`auto`).
        optional: may be left empty, which is null in the config.
    """

    key: str
    kind: ControlKind
    help: str
    allowed: str
    default: Any
    level: Level
    options: tuple[Any, ...] = ()
    optional: bool = False

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


@lru_cache(maxsize=1)
def fields() -> dict[str, Field]:
    """Every setting by its dotted name, in the order of the config."""
    listed = config_keys.every_key()
    return {key.name: _field(key) for key in listed}


def _field(key: config_keys.Key) -> Field:
    found = config_keys.field_at(key.name)
    assert found is not None  # keys() lists what field_at finds
    kind, options, optional = _kind(found.annotation)
    default = list(key.default) if isinstance(key.default, tuple) else key.default
    return Field(key.name, kind, key.help, key.allowed, default, key.level, options, optional)


def _kind(annotation: Any) -> tuple[ControlKind, tuple[Any, ...], bool]:
    """(kind, options, optional) of a field's type.

    Raises:
        TypeError: the form has no way to enter such a type.
    """
    members = list(_members(annotation))
    optional = type(None) in members
    literals = tuple(value for member in members for value in typing.get_args(member) if typing.get_origin(member) is Literal)
    plain = {member for member in members if isinstance(member, type)} - {type(None)}
    items = [typing.get_args(member)[0] for member in members if typing.get_origin(member) in (tuple, list)]
    if not plain and not items and literals:
        return "choice", literals, optional
    if plain == {bool}:
        return "choice", (*literals, True, False), optional
    if plain and plain <= {int, float}:
        return "number", literals, optional
    if plain == {str} and literals:  # words, or any text: the form offers the words and what is chosen
        return "choice", literals, optional
    if plain == {str}:
        return "text", literals, optional
    if len(items) == 1 and typing.get_origin(items[0]) is Literal:
        return "choices", typing.get_args(items[0]), optional
    if items == [str]:
        return "list", literals, optional
    if len(items) == 1 and isinstance(items[0], type) and issubclass(items[0], BaseModel):
        return "json", literals, optional
    raise TypeError(f"no way to enter {annotation}")


def _members(annotation: Any) -> Iterator[Any]:
    """The branches of a union, `Annotated` taken off."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for branch in typing.get_args(annotation):
            yield from _members(branch)
    else:
        yield annotation


# ------------------------------------------------------------------------------------------- entries and values


def as_entry(field: Field, value: Any) -> Any:
    """A config's value (JSON) as it stands in the form: choices keep their value, the rest is text."""
    if field.kind in ("choice", "choices"):
        return tuple(value) if isinstance(value, (list, tuple)) else value
    if value is None:
        return ""
    if field.kind == "list":
        return value if isinstance(value, str) else ", ".join(value)
    if field.kind == "json":
        return json.dumps([_said(each) for each in value], ensure_ascii=False) if value else ""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def word(value: Any) -> str:
    """A choice's value as it is shown."""
    return value if isinstance(value, str) else {True: "yes", False: "no", None: "none"}[value]


def entry_text(field: Field, value: Any) -> str:
    """A config's value (JSON) as it is shown: `yes`, `none`, `q_proj, k_proj`."""
    if field.kind in ("choice", "choices"):
        return ", ".join(word(each) for each in (value if isinstance(value, (list, tuple)) else [value]))
    return str(as_entry(field, value)) or "none"


def default_text(field: Field) -> str:
    """The default as it stands in the form."""
    return entry_text(field, field.default)


def as_value(field: Field, entry: Any) -> Any:
    """What an entry means as a value of the config (JSON). What can't be read stays text, for the config model to refuse."""
    if field.kind in ("choice", "choices"):
        return list(entry) if field.kind == "choices" else entry
    text = entry.strip() if isinstance(entry, str) else entry
    if field.optional and not text:
        return None
    if field.kind == "list" and text not in field.options:
        return config_file.list_of(text)
    if field.kind == "json":
        return _json(text)
    return _number(text) if field.kind == "number" else text


def _said(value: Any) -> Any:
    """An object without what stands at its default: as a person would type it."""
    usual = SourceItem.model_validate({"path": "-"}).model_dump(mode="json", by_alias=True) | {"path": ""}
    return {key: each for key, each in value.items() if each != usual.get(key)} if isinstance(value, dict) else value


def _json(text: str) -> Any:
    if not text:
        return []
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


# ------------------------------------------------------------------------------------------------------ the draft


class ConfigDraft:
    """A config as it is being entered. Whatever is wrong stays as entered and is reported by `problems`."""

    def __init__(self, config: Config) -> None:
        self.entries: dict[str, Any] = {}
        self.load(config)
        self._saved = self.document()

    def load(self, config: Config) -> None:
        """Take over every setting of `config`."""
        self.entries = {key: as_entry(field, config_file.get(config, key)) for key, field in fields().items()}

    def enter(self, key: str, entry: Any) -> bool:
        """Put an entry in; True when it is another than before."""
        if self.entries[key] == entry and type(self.entries[key]) is type(entry):
            return False
        self.entries[key] = entry
        return True

    def with_what_follows(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Entries, and those that follow for the settings they stand for (`pipeline.config.follows`) where they differ."""
        listed = fields()
        values = {key: as_value(listed[key], entry) for key, entry in entries.items() if entry != self.entries[key]}
        now = {key: self.value(key) for key in follows.ASKED}
        found = follows.with_what_follows(values, now)
        return {**entries, **{key: as_entry(listed[key], found[key]) for key in found if key not in entries}}

    def value(self, key: str) -> Any:
        """What the entry means, right or wrong."""
        return as_value(fields()[key], self.entries[key])

    def document(self) -> dict[str, Any]:
        """Everything entered, as a config's JSON that may have problems."""
        result: dict[str, Any] = {}
        for key in fields():
            *sections, name = key.split(".")
            inner = result
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[name] = self.value(key)
        return result

    def problems(self) -> dict[str, str]:
        """What is wrong, by the setting to mend."""
        found: dict[str, str] = {}
        for problem in config_file.problems(self.document()):
            for key in _blamed(problem):
                found.setdefault(key, problem.message)
        return found

    def config(self) -> Config:
        """The config that was entered.

        Raises:
            BadInput: it has problems; all of them are listed.
        """
        return config_file.parse(self.document(), "this form")

    def is_default(self, key: str) -> bool:
        return bool(self.value(key) == fields()[key].default)

    @property
    def changed(self) -> bool:
        """Whether anything would be lost by leaving now."""
        return self.document() != self._saved

    def mark_saved(self) -> None:
        """What stands here is on disk."""
        self._saved = self.document()


def _blamed(problem: config_file.Problem) -> list[str]:
    """The settings a problem is shown at: its own, or those of its section that the message names."""
    if problem.key in fields():
        return [problem.key]
    above = problem.key
    while above := above.rpartition(".")[0]:  # of one thing in a list: the list
        if above in fields():
            return [above]
    prefix = f"{problem.key}." if problem.key else ""
    inside = [field for field in fields().values() if field.key.startswith(prefix)]
    words = set(problem.message.replace(",", " ").split())
    return [field.key for field in inside if field.section == problem.key and field.name in words] or [inside[-1].key]
