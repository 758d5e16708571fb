"""Counting what happened to rows, with the first lines it happened on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIRST_LINES = 5
# A template can word its refusals as it likes, with the row's text in them: more kinds than this share one entry.
_MOST_REASONS = 40
_OTHER = "other reasons"


class Tally:
    """Counts by reason.

    Args:
        unit: what the numbers count: lines of a file, or rows of a JSON array.
    """

    def __init__(self, unit: str = "line") -> None:
        self.unit = unit
        self._counts: dict[str, int] = {}
        self._lines: dict[str, list[int | str]] = {}

    def add(self, reason: str, line: int, place: str = "") -> None:
        """One row, by its number in the raw file, or where that leads nowhere by its place in words."""
        if reason not in self._counts and len(self._counts) >= _MOST_REASONS:
            reason = _OTHER
        self._counts[reason] = self._counts.get(reason, 0) + 1
        lines = self._lines.setdefault(reason, [])
        if len(lines) < _FIRST_LINES:
            lines.append(place or line)

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def to_json(self) -> dict[str, Any]:
        """`{reason: {"rows": count, "lines": [first lines, as numbers or in words]}}`, the commonest first."""
        return {reason: {"rows": self._counts[reason], "lines": self._lines[reason]} for reason in self._by_count()}

    def in_words(self) -> list[str]:
        """One line a reason: "3 rows: not UTF-8 text (lines 4, 9, 12)"."""
        return reasons_in_words(self.to_json(), self.unit)

    def _by_count(self) -> list[str]:
        return sorted(self._counts, key=lambda reason: -self._counts[reason])


def reasons_in_words(reasons: Mapping[str, Mapping[str, Any]], unit: str) -> list[str]:
    """What `Tally.to_json` gives, as `Tally.in_words` says it."""
    return [f"{counted_rows(each['rows'])}: {reason} ({_where(each, unit)})" for reason, each in reasons.items()]


def _where(each: Mapping[str, Any], unit: str) -> str:
    lines = each["lines"]
    some = ", ".join(map(str, lines)) + (", …" if each["rows"] > len(lines) else "")
    if any(isinstance(line, str) for line in lines):
        return some
    return f"{unit}{'s' if len(lines) > 1 else ''} {some}"


def counted_rows(count: int) -> str:
    """ "1 row", "3 rows"."""
    return "1 row" if count == 1 else f"{count} rows"
