"""What an inspection of the whole file found, as the data screen shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.content import Content

from pipeline.common.text import counted, safe, share_of

_TALLIES = {
    "rejected": "rejected",
    "left_out": "not used of the rows",
    "changed": "changed",
    "duplicates": "left out as duplicates",
    "alike": "alike, so held out together",
    "personal": "looks like personal data; look at these rows before you train on them",
}
_MOST_LANGUAGES = 6


def inspection_content(found: Mapping[str, Any]) -> Content:
    """Kind, schema with its evidence, what maps where, lengths, languages, and what happened to which rows."""
    facts = [
        ("file", found["container"] + (f": {found['notice']}" if found["notice"] else "")),
        ("schema", f"{found['schema']}: {found['evidence']}"),
        ("uses", ", ".join(found["uses"]) or "none of its keys"),
        ("used", f"{counted(found['used'])} of {counted(found['rows'])} rows"),
    ]
    for name, key, unit in (("length", "characters", "characters"), ("turns", "turns", "messages")):
        if found[key]:
            facts.append((name, "   ".join(f"{each} {counted(value)}" for each, value in found[key].items()) + f" {unit}"))
    if languages := found["languages"]:
        total = sum(languages.values())
        named = [f"{name or 'not told'} {share_of(count, total)}" for name, count in languages.items()][:_MOST_LANGUAGES]
        facts.append(("languages", ", ".join(named)))
    lines = [Content.assemble((f"{name:<10} ", "$dim"), safe(value)) for name, value in facts]
    for key, title in _TALLIES.items():
        if found[key]:
            lines += [Content(""), Content.styled(title, "$warning" if key == "personal" else "bold")]
            lines += [_entry(reason, each, found["unit"]) for reason, each in found[key].items()]
    if found["division"]:
        lines += [
            Content(""),
            Content.styled("held out (data.split)", "bold"),
            *(Content(f"  {line}") for line in found["division"]),
        ]
    return Content("\n").join(lines)


def _entry(reason: str, each: Mapping[str, Any], unit: str) -> Content:
    some = ", ".join(str(line) for line in each["lines"]) + (", …" if each["rows"] > len(each["lines"]) else "")
    where = some if any(isinstance(line, str) for line in each["lines"]) else f"{unit}{'s' * (len(each['lines']) > 1)} {some}"
    return Content.assemble(
        f"  {counted(each['rows'])} row{'s' * (each['rows'] != 1)}: {safe(reason)}", (f" ({safe(where)})", "$dim")
    )
