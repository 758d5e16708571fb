"""Runs of the queue beside each other: what they differ in, their held-out losses, gates and verdicts.

The order is by the held-out loss of `val`, which chose each run's checkpoint; test rows judge a run and choose none:
the best of many by its test rows is better by chance alone.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from humigence_tui.cli.shared.output import Colour, out, print_message, print_next_commands, table
from humigence_tui.cli.shared.queue_text import word
from pipeline.common.text import loss
from pipeline.config.sweep import short_key, text_of
from pipeline.runs import event_log
from pipeline.runs.folders import Workspace
from pipeline.runs.headline import headline
from pipeline.runs.queue import Queued
from pipeline.runs.store import read_report

_WIDTH = 80


@dataclass(frozen=True)
class Row:
    """A run as it is compared.

    Attributes:
        values: of the settings in which any of them differ, in the same order in all.
        val_loss: lowest held-out loss, nats a token; None where there is none.
        gates: (passed, judged).
        rows: what it was prepared as: held-out losses compare where this is the same.
    """

    queued: Queued
    values: tuple[tuple[str, str], ...]
    state: str
    val_loss: float | None
    gates: tuple[int, int]
    verdict: str
    rows: str
    config: str

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.queued.number, "run": self.queued.run, "state": self.state, "differs": dict(self.values),
            "val_loss": self.val_loss, "gates_passed": self.gates[0], "gates_judged": self.gates[1], "verdict": self.verdict,
            "prepared_rows": self.rows, "exit_code": self.queued.exit_code, "message": self.queued.message,
        }  # fmt: skip


def compared(chosen: Sequence[Queued], here: Workspace) -> list[Row]:
    """The lowest held-out loss first, those without one last."""
    keys = list(dict.fromkeys(key for each in chosen for key, _ in each.differs))
    rows = [_row(each, keys, here) for each in chosen]
    return sorted(rows, key=lambda row: (row.val_loss is None, row.val_loss or 0.0))


def _row(queued: Queued, keys: Sequence[str], here: Workspace) -> Row:
    values = tuple((key, dict(queued.differs).get(key, "–")) for key in keys)
    run = queued.folder(here)
    if run is None or not run.path.is_dir():
        return Row(queued, values, word(queued), None, (0, 0), queued.message.splitlines()[0] if queued.message else "", "", "")
    state = event_log.read_state(run)
    best = state.best[1] if state.best else None
    judged = [gate.verdict for gate in state.gates if gate.verdict in ("passed", "failed")]
    verdict = headline(state.held_out_reports, state.answers, state.suites)
    if not verdict and queued.message:
        verdict = queued.message.splitlines()[0]
    prepared = read_report(run.preprocess_report)
    return Row(
        queued, values, word(queued), best if best is not None and math.isfinite(best) else None,
        (judged.count("passed"), len(judged)), verdict, str((prepared or {}).get("fingerprint", "")),
        str(run.config.relative_to(here.root)),
    )  # fmt: skip


def print_rows(rows: Sequence[Row]) -> None:
    """A line each, its verdict below."""
    keys = [key for key, _ in rows[0].values]
    cells = [
        (str(row.queued.number), *(value[:20] for _, value in row.values), row.state, loss(row.val_loss), _gates(row))
        for row in rows
    ]
    head = ("", *(short_key(key) for key in keys), "state", "held out", "gates")
    first, *lines = table(cells, right=(0, len(keys) + 2), head=head)
    out(first, "dim")
    for row, line in zip(rows, lines, strict=True):
        out(line, _colour(row))
        if row.verdict:
            out(f"      {row.verdict}", "dim")
    _print_remarks(rows)


def _gates(row: Row) -> str:
    passed, judged = row.gates
    return f"{'✔' if passed == judged else '✘'} {passed} of {judged}" if judged else "–"


def _colour(row: Row) -> Colour | None:
    if row.gates[1]:
        return "green" if row.gates[0] == row.gates[1] else "red"
    return "red" if row.state in ("failed", "crashed") else None


def _print_remarks(rows: Sequence[Row]) -> None:
    measured = [row for row in rows if row.val_loss is not None]
    if len({row.rows for row in measured}) > 1:
        print_message("▲ they were prepared differently: their held-out losses are of other rows or other tokens", "amber")
    going = sum(row.state in ("waiting", "starting", "running") for row in rows)
    if going:
        print_message(f"{going} of {len(rows)} {'has' if going == 1 else 'have'} not ended")
    if measured:
        best = measured[0]
        print_message(f"lowest held-out loss: {best.queued.number}" + (f", {text_of(best.values)}" if best.values else ""))
        ask = [f'humigence infer --config {shlex.quote(best.config)} --prompt "…"'] if best.state == "finished" else []
        print_next_commands(f"humigence runs show {best.queued.run}", *ask)
