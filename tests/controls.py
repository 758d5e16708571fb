"""The tables of docs/ui.md: a control for each setting, from the config's fields; a row for each key, from the screens."""

from __future__ import annotations

import json
import shlex
from typing import Any

from textual.binding import Binding

from humigence_tui.app import HumigenceApp
from pipeline.config.keys import every_key
from pipeline.config.schema import Result
from screens.frame import registry
from screens.frame.key_line import key_name
from screens.frame.page import Page
from screens.setup.config_form import section_title, sections
from screens.setup.form_values import Field
from screens.setup.target_modules import TARGET_MODULES
from screens.widgets.choices import Choices

_BY_QUESTION = {
    "project": "line at the top", "compute.gpu": "question 1: list", "model.repo": "question 2: list, or typed",
    "model.local_path": "question 2: path", "data.source": "question 3: list", "data.raw_path": "question 3: path",
    "data.hub.repo": "question 3: line", "data.schema": "question 4: list", "train.precision_mode": "question 5: list",
    TARGET_MODULES: "multi-select of the model's layers",
}  # fmt: skip
_KINDS = {
    "choice": "list", "choices": "multi-select", "list": "line: names", "number": "line: number", "text": "line",
    "json": "line: JSON",
}  # fmt: skip
# The first thing that is made anew, and the target that makes it.
_TARGETS: dict[Result, str] = {
    "plan": "make plan", "speed": "make plan", "rows": "make preprocess", "adapter": "make train", "report": "make eval",
    "verdicts": "make validate", "package": "make pack",
}  # fmt: skip
# Of a setting that goes into the package's fingerprint only, since what is made from it goes into the others by itself.
_SECTION_TARGETS = {"data": "make preprocess", "model": "make model", "eval": "make eval", "compute": "make plan"}


def settings_table() -> str:
    """Control, config key, command, make target, of every setting in the order of the form."""
    lines = ["| control | where | config key | from a shell | make target |", "| --- | --- | --- | --- | --- |"]
    for section, inside in sections().items():
        for field in inside:
            where = "basic" if field.level == "basic" else f"advanced, {section_title(section)}"
            command = f"humigence config set {field.key} {shlex.quote(_example(field))}"
            lines.append(f"| {control_of(field)} | {where} | `{field.key}` | `{command}` | {_target(field)} |".replace("\n", " "))
    return "\n".join(lines) + "\n"


def control_of(field: Field) -> str:
    """What a person enters it with."""
    return _BY_QUESTION.get(field.key) or _KINDS[field.kind]


def _target(field: Field) -> str:
    affects = next(key.affects for key in every_key() if key.name == field.key)
    found = [target for result, target in _TARGETS.items() if result in affects]
    named = found[0] if found else "make pack"
    of_section = _SECTION_TARGETS.get(field.key.partition(".")[0]) if named == "make pack" else None
    return f"`{of_section or named}`"


def _example(field: Field) -> str:
    """A value that the command takes."""
    if field.key == TARGET_MODULES:
        return "q_proj,v_proj"
    if field.key == "data.source":
        return "bundled"
    if field.kind == "choices":
        return ",".join(field.options[:2])
    if field.kind == "choice" and field.options:
        return "true" if field.options[-1] is False else str(field.options[-1])
    if field.default is None:
        return "null"
    return field.default if isinstance(field.default, str) and field.default else json.dumps(field.default)


def keys_table() -> str:
    """Screen, key, what it does; what every screen has stands once."""
    everywhere = _declared(Page) | _declared(HumigenceApp)
    lines = ["| screen | key | what it does |", "| --- | --- | --- |", *_rows("everywhere", everywhere)]
    for name in registry.NAMES:
        own: dict[str, Binding] = {}
        for owner in reversed(registry.load(name).__mro__):
            if owner is not Page and issubclass(owner, Page):
                own |= _declared(owner)
        lines += _rows(name, own)
    lines += _rows("lists", _declared(Choices))
    return "\n".join(lines) + "\n"


def _declared(owner: Any) -> dict[str, Binding]:
    return {binding.key: binding for binding in owner.__dict__.get("BINDINGS", ()) if binding.description}


def _rows(screen: str, bindings: dict[str, Binding]) -> list[str]:
    rows = []
    for binding in bindings.values():
        keys = " ".join(f"`{key_name(key)}`" for key in binding.key.split(","))
        rows.append(f"| {screen} | {keys} | {binding.tooltip or binding.description} |")
    return rows
