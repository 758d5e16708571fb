"""What became of each value of another trainer's config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.config import file as config_file
from pipeline.config.schema import Config

Outcome = Literal["became", "same", "lost"]
NO_COUNTERPART = "has no counterpart here"


@dataclass(frozen=True)
class Line:
    """One value of theirs.

    Attributes:
        outcome: it became settings of ours; it asks for what is done here anyway; or it is not taken over.
        here: the settings it became, `key value`.
        note: why, or what to know.
    """

    theirs: str
    value: Any
    outcome: Outcome
    here: tuple[str, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "theirs": self.theirs, "value": self.value, "outcome": self.outcome, "here": list(self.here), "note": self.note,
        }  # fmt: skip


@dataclass
class Report:
    """What is read of a config, value by value.

    Attributes:
        kind: whose config it is.
        settings: dotted key of ours -> its value.
        needed: what it does not say and training needs.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)

    def became(self, theirs: str, value: Any, settings: Mapping[str, Any], note: str = "") -> None:
        """The value became these settings."""
        self.settings.update(settings)
        here = tuple(f"{key} {short(each)}" for key, each in settings.items())
        self.lines.append(Line(theirs, value, "became", here, note))

    def same(self, theirs: str, value: Any, note: str) -> None:
        """The value asks for what is done here anyway."""
        self.lines.append(Line(theirs, value, "same", (), note))

    def lost(self, theirs: str, value: Any, note: str = NO_COUNTERPART) -> None:
        """The value is not taken over."""
        self.lines.append(Line(theirs, value, "lost", (), note))

    def ended(self) -> Report:
        """All is read: what only the whole tells."""
        if "data.split" not in self.settings:
            self.same("held-out rows", "not given", "data.split as it is by default: without them the result can't be judged")
        steps = self.settings.get("train.max_steps")
        for number, line in enumerate(self.lines):
            if line.theirs == "warmup_steps" and line.outcome == "lost" and steps and isinstance(line.value, int):
                ratio = round(min(line.value / steps, 0.99), 6)
                self.settings["train.warmup_ratio"] = ratio
                self.lines[number] = Line(
                    line.theirs, line.value, "became", (f"train.warmup_ratio {ratio:g}",), f"of {steps} steps"
                )
        return self

    def config(self) -> Config:
        """The config that came out. A value that is not allowed here is left at its default, and its line says so."""
        document = Config().to_json()
        for key, value in self.settings.items():
            before = _put(document, key, value)
            problems = [each for each in config_file.problems(document) if each.key == key or each.key.startswith(f"{key}.")]
            if problems:
                _put(document, key, before)
                self._refused(key, problems[0].message)
        return config_file.parse(document, "what was imported")

    def _refused(self, key: str, message: str) -> None:
        for number, line in enumerate(self.lines):
            if any(each.startswith(f"{key} ") for each in line.here):
                here = tuple(each for each in line.here if not each.startswith(f"{key} "))
                note = f"{key} {message}; its default is kept"
                self.lines[number] = Line(line.theirs, line.value, "became" if here else "lost", here, note)


def _put(document: dict[str, Any], key: str, value: Any) -> Any:
    """Set a dotted key; what stood there before."""
    *sections, last = key.split(".")
    inner = document
    for section in sections:
        inner = inner[section]
    before, inner[last] = inner[last], {**inner[last], **value} if isinstance(value, dict) else value
    return before


def short(value: Any) -> str:
    """A value as a line shows it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


def unknown(report: Report, values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Say of every value that nobody asked for that it is not taken over."""
    for key in values.keys() - set(known):
        report.lost(str(key), values[key])
