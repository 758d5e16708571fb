"""One HTML page of a run, without a script, a font or a picture from elsewhere: it opens without a network, and prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pipeline import __version__
from pipeline.common.redact import redact
from pipeline.common.text import counted, duration, gate_needs, gate_value, loss, safe, size
from pipeline.config.schema import Config
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.gates import judge
from pipeline.export.proof.proof import Proof
from pipeline.report.chart import Line, Point, chart, smoothed
from pipeline.runs.events import Answered, GateJudged
from pipeline.runs.headline import change, headline, suite_chance, suite_title, suite_value
from pipeline.runs.state import RunState

_TRAINED, _HELD_OUT, _FAINT = "#0b66a8", "#b3541e", "#9fbfd6"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d5dde5; }
.verdict { font-size: 1.1rem; margin: .75rem 0; } .dim { color: #5b6b7a; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } th { text-align: left; font-weight: 600; }
td, th { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e6ebf0; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; margin: .5rem 0; } svg text { font: 12px system-ui, sans-serif; fill: #5b6b7a; }
svg .title { font-weight: 600; fill: #1c2733; } svg .left, svg .name { text-anchor: end; } svg .below { text-anchor: middle; }
svg .grid { stroke: #e6ebf0; } svg .line { fill: none; stroke-width: 1.8; }
pre { background: #f4f7fa; padding: .75rem; overflow-x: auto; font-size: 13px; white-space: pre-wrap; }
.answer { white-space: pre-wrap; } .good { color: #1a7a3c; } .bad { color: #b3261e; } .open { color: #8a6100; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; } details > * { display: block; }
  h2, svg, tr { break-inside: avoid; } }
"""
_COLOURS = {"passed": "good", "failed": "bad", "not judged": "open", "warning": "open", "better": "good", "worse": "bad"}


@dataclass(frozen=True)
class Reported:
    """What a page is made of.

    Attributes:
        data: the run's report of preprocess; None where it has none.
        manifest: `humigence.json` of the package this run made; empty where there is none.
        made_with: names and values, as `provenance.facts` has them.
    """

    name: str
    config: Config
    state: RunState
    evidence: Evidence | None
    data: dict[str, Any] | None
    manifest: dict[str, Any]
    made_with: Sequence[tuple[str, str]]


def page(run: Reported) -> str:
    """The page's text."""
    gates = judge(run.evidence, run.config.acceptance) if run.evidence else []
    suites = run.evidence.suites if run.evidence else ()
    verdict = headline(run.state.held_out_reports, run.state.answers, suites)
    sections = [
        ("Verdict", _gates(gates)),
        ("Curves", _curves(run.state)),
        ("Held-out rows", _held_out(run.state)),
        ("What it may have forgotten", _suites(run)),
        ("Answers", _answers(run.state.answers)),
        ("Exports", _exports(run)),
        ("Data", _data(run.data)),
        ("Training", _facts(run)),
        ("Settings", _settings(run.config)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in sections if text)
    head = f"<h1>{_safe(run.name)}</h1><p class=dim>{_safe(_about(run.state))}</p><p class=verdict>{_safe(verdict)}</p>"
    foot = f"<p class=dim>Written by Humigence {__version__}.</p>"
    title = f"<title>{_safe(run.name)}</title>"
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{viewport}{title}<style>{_STYLE}</style></head>'
        f"<body>{head}{body}{foot}</body></html>\n"
    )


def _safe(text: str) -> str:
    """Text of whoever wrote it, a token or a control sequence in it included, as a page may hold it."""
    return escape(safe(redact(text), lines=True))


def _about(state: RunState) -> str:
    took = duration((state.ended or state.last_event or 0) - state.started) if state.started and state.last_event else ""
    return ", ".join(filter(None, [state.model, state.precision_mode, state.device, took]))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already."""
    listed = [list(row) for row in rows]
    if not listed:
        return ""
    classes = [" class=number" if number in numbers else "" for number in range(len(heads))]
    head = "".join(f"<th{kind}>{escape(text)}</th>" for kind, text in zip(classes, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(classes, row, strict=True)) + "</tr>" for row in listed
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _coloured(text: str, word: str) -> str:
    return f"<span class={_COLOURS[word]}>{_safe(text)}</span>" if word in _COLOURS else _safe(text)


def _gates(gates: Sequence[GateJudged]) -> str:
    rows = [
        [
            _safe(each.gate), _coloured(each.verdict, each.verdict), _safe(gate_value(each.value, each.unit)),
            _safe(gate_needs(each.threshold, each.unit, each.at_most)), _safe(each.explanation),
        ]
        for each in gates
    ]  # fmt: skip
    return _table(["gate", "verdict", "value", "needs", "why"], rows, numbers=(2, 3))


def _curves(state: RunState) -> str:
    def column(name: str) -> list[Point]:
        return list(zip(state.train["step"], state.train[name], strict=True))

    held_out = list(zip(state.held_out["step"], state.held_out["loss"], strict=True))
    trained = column("loss")
    lines = [Line("each step", trained, _FAINT), Line("training, smoothed", smoothed(trained), _TRAINED)]
    return "".join(
        [
            chart("loss (nats a token)", [*lines, Line("held out", held_out, _HELD_OUT, marks=True)]) if trained else "",
            chart("learning rate", [Line("", column("lr"), _TRAINED)]),
            chart("gradient norm", [Line("", column("grad_norm"), _TRAINED)]),
        ]
    )


def _held_out(state: RunState) -> str:
    rows = [
        [
            _safe(each.split), f"{each.rows:,}", f"{each.tokens:,}", loss(each.base_loss), loss(each.tuned_loss),
            f"{100 * each.base_accuracy:.1f} %", f"{100 * each.tuned_accuracy:.1f} %",
        ]
        for each in state.held_out_reports
    ]  # fmt: skip
    heads = ["split", "rows", "tokens", "base loss", "tuned loss", "base accuracy", "tuned accuracy"]
    return _table(heads, rows, numbers=range(1, 7))


def _suites(run: Reported) -> str:
    rows = [
        [
            _safe(suite_title(each.suite)), f"{each.items:,}", _safe(suite_value(each, each.base)),
            _safe(suite_value(each, each.tuned)), _safe(suite_chance(each)), _safe(each.verdict),
        ]
        for each in (run.evidence.suites if run.evidence else ())
    ]  # fmt: skip
    return _table(["suite", "items", "base", "tuned", "chance", "verdict"], rows, numbers=(1, 2, 3, 4))


def _answers(answers: Sequence[Answered]) -> str:
    rows = []
    for each in answers:
        base, tuned = (
            f"<div class=answer>{_safe(text)}</div>" + "".join(f"<div class=dim>{_safe(why)}</div>" for why in reasons)
            for text, reasons in ((each.base, each.base_reasons), (each.tuned, each.tuned_reasons))
        )
        rows.append([_safe(each.prompt), base, tuned, _coloured(change(each), change(each))])
    return _table(["prompt", "base", "tuned", ""], rows)


def _exports(run: Reported) -> str:
    rows = []
    for each in run.state.packed:
        record = run.manifest.get(each.format)
        proof = Proof.from_json(record["proof"]).sentence() if isinstance(record, dict) and "proof" in record else ""
        rows.append([f"<code>{_safe(each.format)}</code>", _safe(each.folder), size(each.size_bytes), _safe(proof)])
    return _table(["format", "where", "size", "proof"], rows, numbers=(2,))


def _data(data: dict[str, Any] | None) -> str:
    if data is None:
        return ""
    counts = [("rows", "in the file"), ("kept", "used"), ("rejected_rows", "unusable"), ("duplicates", "exact duplicates")]
    rows = [[title, f"{data[key]:,}"] for key, title in counts if key in data]
    rows += [[f"left out: {_safe(reason)}", f"{figures['rows']:,}"] for reason, figures in data.get("rejected", {}).items()]
    splits = [
        [_safe(name), *(f"{figures[key]:,}" for key in ("conversations", "documents", "tokens", "trained_tokens"))]
        for name, figures in data.get("splits", {}).items()
    ]
    heads = ["split", "conversations", "documents", "tokens", "trained tokens"]
    source = f"<p>{_safe(str(data.get('schema', '')))}, sha256 <code>{_safe(str(data.get('raw_sha256', '')))}</code></p>"
    return source + _table(["rows", "count"], rows, numbers=(1,)) + _table(heads, splits, numbers=range(1, 5))


def _facts(run: Reported) -> str:
    state = run.state
    rows = [("optimizer steps", f"{counted(state.step)} of {counted(state.total_steps)}")] if state.step else []
    rows += [("best", f"{loss(state.best[1])} held out, at step {counted(state.best[0])}")] if state.best else []
    rows += [("peak memory", size(state.peak_memory_bytes))] if state.peak_memory_bytes else []
    rows += [*run.made_with]
    return _table(["", ""], [[_safe(name), _safe(value)] for name, value in rows])


def _settings(config: Config) -> str:
    text = json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return f"<details open><summary>the whole config</summary><pre>{_safe(text)}</pre></details>"
