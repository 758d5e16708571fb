"""An inspection of a data file for a person: what `humigence data inspect` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.common.text import counted, share_of
from pipeline.dataset.inspection import Inspection, spread
from pipeline.dataset.reason_counts import Tally
from pipeline.dataset.schemas.registry import schema

_MOST_LANGUAGES = 6


def lines(inspection: Inspection) -> Iterator[str]:
    """Kind, schema with its evidence, what is used and what is not, with lines."""
    of = schema(inspection.schema)
    facts = [
        ("file", inspection.container + (f": {inspection.notice}" if inspection.notice else "")),
        ("schema", f"{inspection.schema}{' (data.schema)' if inspection.asked else ''}: {inspection.evidence}"),
        ("reads", of.maps.replace("`", "")),
        ("uses", ", ".join(inspection.uses) or "none of its keys"),
        ("used", f"{counted(inspection.used)} of {counted(inspection.rows)} rows"),
    ]
    for name, values, unit in (("length", inspection.characters, "characters"), ("turns", inspection.turns, "messages")):
        if found := spread(values):
            facts.append((name, "   ".join(f"{key} {counted(value)}" for key, value in found.items()) + f" {unit}"))
    if inspection.languages:
        facts.append(("languages", _languages(inspection.languages)))
    width = max(len(name) for name, _ in facts)
    yield from (f"{name:<{width}}  {value}" for name, value in facts)
    for title, tally in _tallies(inspection):
        if tally.total:
            yield from ("", title, *(f"  {entry}" for entry in tally.in_words()))

    if inspection.division:
        yield from ("", "held out (data.split)", *(f"  {line}" for line in inspection.division))


def _languages(languages: Counter[str]) -> str:
    """ "English 98 %, German 1 %, not told 1 %": of the rows, the commonest first."""
    total = languages.total()
    named = [f"{name} {share_of(count, total)}" for name, count in languages.most_common() if name][:_MOST_LANGUAGES]
    untold = [f"not told {share_of(languages[''], total)} (short, code, another)"] if languages[""] else []
    return ", ".join([*named, *untold])


def _tallies(inspection: Inspection) -> tuple[tuple[str, Tally], ...]:
    return (
        ("rejected", inspection.rejected),
        ("not used of the rows", inspection.left_out),
        ("changed", inspection.changed),
        ("left out as duplicates", inspection.duplicates),
        ("alike, so held out together", inspection.alike),
        ("looks like personal data; look at these rows before you train on them", inspection.personal),
    )
