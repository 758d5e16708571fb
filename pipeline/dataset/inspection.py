"""What a file of rows is, found out by reading all of it: kind, schema and its evidence, what is used, what is not and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, FoundSchema, columns_by_name
from pipeline.dataset.cleaning import digest
from pipeline.dataset.grouping import Grouping
from pipeline.dataset.languages import language_of
from pipeline.dataset.leaks_without_model import words_of
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.reason_counts import Tally
from pipeline.dataset.row import conversation_of
from pipeline.dataset.row_view import texts_of
from pipeline.dataset.schemas.read import renamed
from pipeline.dataset.schemas.registry import schema
from pipeline.dataset.sniff import reader_for, schema_of, with_schema
from pipeline.dataset.split import divided
from pipeline.tokenization.messages import Conversation

# Rows whose language is looked at: all of so many, then one in a few.
_LANGUAGES_OF, _THEN_ONE_IN = 10_000, 16
# What looks as if nobody meant to hand it in. Counted with its rows, never shown.
_PERSONAL = (
    ("e-mail addresses", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+\b")),
    ("phone numbers", re.compile(r"(?<![\w.+-])\+\d{1,3}[ -]?(?:\(?\d{2,5}\)?[ -]?){2,4}\d{2,4}(?![\w-])")),
    (
        "keys and tokens",
        re.compile(
            r"\b(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,})"
            r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
        ),
    ),
)


@dataclass
class Inspection:
    """What a file holds.

    Attributes:
        container: the kind of file, `unit` what its numbers count, `notice` what to know of it ("" for the usual kind).
        schema: as it is read; `asked` whether the config said so.
        fitting: rows by the schema that they are written in; those of none count under "".
        misfits: of the others the reasons.
        characters: of each row that is used.
        turns: messages of each.
        languages: of the rows that were looked at; those of which none is told count under "".
        uses: keys of rows that are used, with how many rows have them; `data.columns`' as it is in the file.
        alike: why -> rows that belong together with another.
        division: what is to be said of how they are held out, in words.
    """

    path: Path
    container: str
    unit: str
    notice: str
    schema: FoundSchema
    asked: bool
    rows: int = 0
    used: int = 0
    fitting: Counter[str] = field(default_factory=Counter)
    rejected: Tally = field(default_factory=Tally)
    left_out: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    personal: Tally = field(default_factory=Tally)
    characters: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    languages: Counter[str] = field(default_factory=Counter)
    uses: Counter[str] = field(default_factory=Counter)
    alike: Tally = field(default_factory=Tally)
    division: list[str] = field(default_factory=list)

    @property
    def evidence(self) -> str:
        """ "987 of 989 rows have messages with role and content"."""
        what = schema(self.schema).evidence
        return f"{self.fitting[self.schema]:,} of {self.rows:,} rows have {what}"

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        tallies = ("rejected", "left_out", "changed", "duplicates", "alike", "personal")
        return {
            "path": str(self.path), "container": self.container, "unit": self.unit, "notice": self.notice, "schema": self.schema,
            "asked": self.asked, "rows": self.rows, "used": self.used, "evidence": self.evidence,
            "uses": list(self.uses),
            "fitting": dict(self.fitting),
            **{name: getattr(self, name).to_json() for name in tallies},
            "languages": dict(self.languages.most_common()), "division": self.division,
            "characters": spread(self.characters), "turns": spread(self.turns),
        }  # fmt: skip


def spread(values: list[int]) -> dict[str, int]:
    """p50, p90 and max, each a value that occurs; empty for none."""
    if not values:
        return {}
    p50, p90 = np.percentile(values, [50, 90], method="inverted_cdf")
    return {"p50": int(p50), "p90": int(p90), "max": max(values)}


def inspect(path: Path, config: Config) -> Inspection:
    """Read all of `path` as `data.schema` and `data.columns` say, without a model. Raises `BadInput` as reading does."""
    inspection, conversations = begin(path, config)
    for _ in conversations:
        pass
    return inspection


def begin(path: Path, config: Config) -> tuple[Inspection, Iterator[Conversation]]:
    """The inspection, and the conversations that can be used: it is filled as they are taken."""
    reader, found = reader_for(config, path), with_schema(config, path)
    assert found.data.row_schema != "auto"
    inspection = Inspection(
        path, reader.name, reader.unit, reader.notice(path), found.data.row_schema, config.data.row_schema != "auto"
    )
    for name in ("rejected", "left_out", "changed", "duplicates", "alike", "personal"):
        setattr(inspection, name, Tally(reader.unit))
    return inspection, _conversations(inspection, reader.rows(path), found)


def _conversations(inspection: Inspection, rows: Iterator[RawRow], config: Config) -> Iterator[Conversation]:
    met: dict[bytes, tuple[int, str]] = {}  # name -> number and place, in the order of the file
    grouping = Grouping()
    for raw in rows:
        inspection.rows += 1
        inspection.fitting[schema_of(raw, config.data.columns) or ""] += 1
        try:
            conversation, changes, left_out, origin = conversation_of(raw, config)
        except BadInput as problem:
            inspection.rejected.add(problem.message, raw.number, raw.place)
            continue
        for tally, names in ((inspection.changed, changes), (inspection.left_out, left_out)):
            for name in sorted(names):
                tally.add(name, raw.number, raw.place)
        name_ = digest(conversation)
        if name_ in met:
            inspection.duplicates.add("same as another", raw.number, raw.place)
            continue
        met[name_] = raw.number, raw.place
        grouping.add(conversation, origin, (words_of(conversation),))
        inspection.used += 1
        _note_keys(inspection, raw, config)
        _measure(inspection, raw, conversation)
        yield conversation
    if met:
        _compare(inspection, met, grouping, config)


def _note_keys(inspection: Inspection, raw: RawRow, config: Config) -> None:
    of, columns = schema(inspection.schema), columns_by_name(config.data.columns)
    row = renamed(raw.row, config.data.columns)
    used = of.used | of.also_used(row)
    for key in row:
        if key in used:
            inspection.uses[f"{columns[key]} as {key}" if key in columns else key] += 1


def _compare(inspection: Inspection, met: dict[bytes, tuple[int, str]], grouping: Grouping, config: Config) -> None:
    """What belongs together, and how it is held out. Words stand for the tokens that a model would have."""
    names, places = list(met), list(met.values())
    groups = grouping.groups(names)
    before = np.zeros(len(names), dtype=np.int64)
    for why, of in groups.stages.items():
        now = np.bincount(of)[of]
        for row in np.flatnonzero(now > np.maximum(before, 1)).tolist():
            inspection.alike.add(why, *places[row])
        before = now
    inspection.division = divided(names, groups, config).grouped.in_words()


def _measure(inspection: Inspection, raw: RawRow, conversation: Conversation) -> None:
    text = "\n".join(texts_of(conversation))
    inspection.characters.append(len(text))
    inspection.turns.append(len(conversation.messages))
    if inspection.used <= _LANGUAGES_OF or inspection.used % _THEN_ONE_IN == 0:
        inspection.languages[language_of(text)] += 1
    for name, pattern in _PERSONAL:
        if pattern.search(text):
            inspection.personal.add(name, raw.number, raw.place)
