"""Runs that end while the app is open: the notice of it in the app and by the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.common.text import loss, safe

if TYPE_CHECKING:
    from pipeline.runs.folders import RunFolder
    from screens.frame.run_snapshot import RunRow

_MOST_CHARACTERS = 200


class Endings:
    """Finds the runs that were on at the last look and are not any more."""

    def __init__(self) -> None:
        self._live: set[RunFolder] = set()

    def among(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """Those of `rows` that have ended since the last call."""
        rows = list(rows)
        ended = [row for row in rows if not row.live and row.run in self._live]
        self._live = {row.run for row in rows if row.live}
        return ended


def ending_text(row: RunRow) -> tuple[str, bool]:
    """How it ended, in a line, and whether it went well."""
    summary, name = row.summary, safe(row.run.project)
    if row.status == "crashed":
        where = f" at step {summary.step:,}" if summary.step else ""
        return f"{name}: its process is gone{where}", False
    if row.status == "failed":
        return f"{name} failed: {safe(summary.error)}" if summary.error else f"{name} failed", False
    if row.status == "stopped":
        saved = "" if summary.saved_step is None else f", saved at step {summary.saved_step:,}"
        return f"{name} stopped{saved}", True
    held_out = "" if summary.best_loss is None else f", held-out loss {loss(summary.best_loss)}"
    gates = "" if not summary.gates_failed else f", {summary.gates_failed} of its gates failed"
    return f"{name} finished{held_out}{gates}", not summary.gates_failed


def terminal_notification(text: str) -> str:
    """The sequence (OSC 9) with which a terminal that knows it notifies its desktop; the others pass over it."""
    return f"\x1b]9;{safe(text)[:_MOST_CHARACTERS]}\x07"
