"""Acceptance gates as people read them."""

from __future__ import annotations

from pipeline.runs.events import GateJudged

MARKS: dict[str, tuple[str, str]] = {
    "passed": ("✔", "$success"),
    "failed": ("✘", "$error"),
    "not judged": ("·", "$warning"),
    "warning": ("!", "$warning"),
}


def measured(gate: GateJudged) -> str:
    """`38.1 %`; a dash where there was no evidence."""
    return "–" if gate.value is None else _in_unit(gate, gate.value)


def needed(gate: GateJudged) -> str:
    """`≥ 1.0 %`, `≤ 20 %`. In logs from before a gate said which of the two it is, its unit decides."""
    at_most = gate.at_most or gate.unit.startswith("spread")
    return f"{'≤' if at_most else '≥'} {_in_unit(gate, gate.threshold)}"


def _in_unit(gate: GateJudged, value: float) -> str:
    """Shares and spreads are written in percent, as percentages are."""
    if gate.unit.startswith("%"):
        return f"{value:.1f} %"
    return f"{100 * value:.1f} %" if gate.unit.startswith(("share", "spread")) else f"{value:g} {gate.unit}"
