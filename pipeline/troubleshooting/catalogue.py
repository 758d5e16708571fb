"""The catalogue of errors: what a person reads, why, and what to do; docs/troubleshooting.md and `humigence errors` come from it.

A test finds every error the source can raise and asks that its first line is listed here, and that no line is
listed which is never raised. To add an error: raise it, run `pytest tests/pipeline/troubleshooting`, and put the line it prints
into `reads` of a trouble that is the same for the reader, or of a new one.
"""

from __future__ import annotations

import functools
import re

from pipeline.troubleshooting import data, hub, machine, model, results, runs, settings
from pipeline.troubleshooting.trouble import ANY, Trouble

SECTIONS: dict[str, tuple[Trouble, ...]] = {
    "Settings": settings.TROUBLES,
    "Data": data.TROUBLES,
    "Base model": model.TROUBLES,
    "Hugging Face hub": hub.TROUBLES,
    "Machine": machine.TROUBLES,
    "Runs": runs.TROUBLES,
    "Results": results.TROUBLES,
}
TROUBLES = tuple(trouble for section in SECTIONS.values() for trouble in section)


def find_trouble(message: str) -> Trouble | None:
    """The trouble that an error's message belongs to, by the longest pattern it fits; None when it fits none."""
    line = message.splitlines()[0] if message else ""
    fitting = [(len(read), trouble) for trouble in TROUBLES for read in trouble.reads if pattern(read).fullmatch(line)]
    return max(fitting, key=lambda each: each[0])[1] if fitting else None


@functools.cache
def pattern(read: str) -> re.Pattern[str]:
    """Matches the lines that `read` stands for."""
    return re.compile(".*".join(re.escape(part) for part in read.split(ANY)))


def markdown_table() -> str:
    """The catalogue as docs/troubleshooting.md shows it."""
    lines = ["| you read | why | what to do |", "| --- | --- | --- |"]
    for section, troubles in SECTIONS.items():
        lines.append(f"| **{section}** | | |")
        for trouble in troubles:
            read = "<br>".join(f"`{each}`" for each in trouble.reads)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (read, trouble.why, trouble.do)) + " |")
    return "\n".join(lines) + "\n"
