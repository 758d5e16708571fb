"""The dataset card: what was in the raw file, what of it was used and why the rest was not. No row of it is quoted."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any

from pipeline.base_model.catalogue import HUB
from pipeline.config.schema import Config
from pipeline.dataset import leaks
from pipeline.dataset.source import made as made_rows
from pipeline.dataset.sources import in_words
from pipeline.export.markdown import front_matter, plain, table
from pipeline.export.package import Package

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_PERCENTILES = ("p50", "p90", "p99", "max")


def dataset_card(package: Package, report: dict[str, Any]) -> str:
    """Markdown with YAML front matter, from the report of preprocess."""
    parts = [
        front_matter({"task_categories": ["text-generation"], "size_categories": [_size(report["kept"])], "tags": ["humigence"]}),
        f"# Data of {package.config.project}",
        "## Source",
        origin(package.config, report),
        "## Rows",
        _rows(report),
        _rejected(report["rejected"], "rows" if report.get("json_array") else "lines"),
        "## Split",
        _split(package, report),
        "## Lengths",
        _lengths(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "n>10M")


def origin(config: Config, report: dict[str, Any]) -> str:
    """The file, what made it where that was Humigence, and the chat template its rows were written by."""
    # The name only: the folders above it say who and where.
    lines = [
        *_named(report),
        f"- sha256: `{report['raw_sha256']}`",
        f"- schema: {report['schema']}",
    ]
    lines += [f"- source: {plain(in_words(entry))}" for entry in report.get("sources", ())]
    lines += [f"- {line}" for hub in report.get("hub_sources", ()) for line in _of_hub(hub)]
    if made := _made_by(config, report["raw_sha256"]):
        lines.append(f"- {made}")
    template = report.get("template", "auto")
    which = f"of {plain(report['model'])}" if template == "auto" else f"{template}, for {plain(report['model'])}"
    return "\n".join([*lines, f"- tokenized with the chat template {which}"])


def _named(report: dict[str, Any]) -> list[str]:
    """The file by its name, or the data set of the hub with its commit and licence."""
    if (hub := report.get("hub")) is None:
        return [f"- file: {plain(PurePath(report['raw_path']).name)}"]
    return [f"- {line}" for line in _of_hub(hub)]


def _of_hub(hub: dict[str, Any]) -> list[str]:
    page = f"{HUB}/datasets/{hub['repo']}"
    licence = [f"licence of the data set: {plain(hub['licence'])}"] if hub["licence"] else []
    where = f"data set: [{plain(hub['repo'])}]({page}), subset {plain(hub['subset'])}, split {plain(hub['split'])}"
    return [where, f"commit: `{hub['commit']}`", *licence]


def _made_by(config: Config, sha256: str) -> str:
    """What made the file, where it is still what that makes."""
    rows = made_rows(config)
    if rows is None or hashlib.sha256(rows).hexdigest() != sha256:
        return ""
    if config.data.source == "bundled":
        return "the demo rows that come with Humigence"
    return f"composed of facts by `humigence data generate`, topics {', '.join(config.data.generate.topics)}, seed {config.seed}"


def _rows(report: dict[str, Any]) -> str:
    rows = [
        ["in the file", report["rows"]],
        ["used", report["kept"]],
        ["left out: unusable", report["rejected_rows"]],
        ["left out: exact duplicates", report["duplicates"]],
        ["left out: belong to held-out rows of their own", leaks.total(report.get("leaks", {}))],
        ["cut into overlapping windows", report["windowed_documents"]],
        ["trained turn by turn", report["turn_by_turn"]],
    ]
    changed = [[f"changed: {plain(reason)}", figures["rows"]] for reason, figures in report["changed"].items()]
    return table(["rows", "count"], [[name, f"{count:,}"] for name, count in rows + changed])


def _rejected(rejected: dict[str, dict[str, Any]], unit: str) -> str:
    if not rejected:
        return ""
    rows = [
        [plain(reason), f"{figures['rows']:,}", ", ".join(map(str, figures["lines"]))] for reason, figures in rejected.items()
    ]
    return "Why rows were left out:\n\n" + table(["reason", "rows", f"first {unit}"], rows)


def _split(package: Package, report: dict[str, Any]) -> str:
    heads = ["split", "conversations", "documents", "tokens", "trained tokens", "share trained"]
    rows = []
    for name, figures in report["splits"].items():
        counts = [f"{figures[key]:,}" for key in ("conversations", "documents", "tokens", "trained_tokens")]
        rows.append([name, *counts, f"{100 * figures['trained_share']:.1f} %"])
    shares, own = package.config.data.shares, package.config.data.held_out_paths
    how = f"By seed {report['seed']}: {shares.train:g} train, {shares.val:g} val, {shares.test:g} test. "
    how += "".join(f"{name} is rows of its own: {plain(PurePath(path).name)}. " for name, path in own.items())
    how += "".join(f"{plain(line)} " for line in leaks.in_words(report.get("leaks", {})))
    return how + "Only what the assistant says is trained.\n\n" + table(heads, rows)


def _lengths(report: dict[str, Any]) -> str:
    rows = [["conversations", *_row(report["conversation_tokens"])]]
    rows += [[f"documents in {name}", *_row(figures["document_tokens"])] for name, figures in report["splits"].items()]
    longest = f"In tokens; a row holds {report['max_seq_len']}, longer conversations: {report['over_long']}."
    return longest + "\n\n" + table(["", *_PERCENTILES], rows)


def _row(percentiles: dict[str, int]) -> list[str]:
    return [f"{percentiles[name]:,}" if name in percentiles else "–" for name in _PERCENTILES]
