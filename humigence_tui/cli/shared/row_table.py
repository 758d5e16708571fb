"""Rows of a raw file for a person or a program: what `humigence data show` and `data stats` print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humigence_tui.cli.shared.output import Colour, colours, out, out_parts
from pipeline.common.text import counted
from pipeline.config.schema import Config
from pipeline.dataset.cleaning import digest
from pipeline.dataset.leaks import in_words as in_words_of_leaks
from pipeline.dataset.readers.manifest import Met, sources_of
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.row import Look, look_at
from pipeline.dataset.row_view import TWIN_REASON, histogram, rendered, shortened, texts_of, turns_of, weights_in_words
from pipeline.dataset.sniff import reader_for
from pipeline.dataset.sources import in_words
from pipeline.dataset.split import Grouped

if TYPE_CHECKING:
    from pipeline.dataset.prepare import Measured
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_BAR_WIDTH = 40
_MOST_BARS = 16


@dataclass(frozen=True)
class Wanted:
    """Which rows to show. `row` alone, by its number from 1; else those that are rejected and that hold `search`."""

    row: int | None = None
    rejected: bool = False
    search: str = ""


@dataclass(frozen=True)
class Shown:
    """One row: `number` counts rows from 1, `line` is where it stands."""

    number: int
    line: int
    look: Look
    reason: str


def rows_of(path: Path, config: Config, tokenizer: ChatTokenizer | None, wanted: Wanted) -> Iterator[Shown]:
    """The rows that are wanted, in the order of the file. Only those that may be shown are tokenized."""
    met = Met(sources_of(path))
    needle = wanted.search.casefold()
    for number, raw in enumerate(reader_for(config, path).rows(path), start=1):
        quick = look_at(raw, config, None)
        name = digest(quick.conversation) if not quick.reason else b""
        seen = met.among(raw.form)
        is_twin = bool(name) and name in seen
        seen.add(name)
        if wanted.row is not None and number != wanted.row:
            continue
        if needle and not any(needle in text.casefold() for text in _texts(raw, quick)):
            continue
        look = quick if is_twin and wanted.rejected else look_at(raw, config, tokenizer)
        reason = look.reason or (TWIN_REASON if is_twin else "")
        if wanted.rejected and not reason:
            continue
        yield Shown(number, raw.number, look, reason)
        if wanted.row is not None:
            return


def _texts(raw: RawRow, look: Look) -> Sequence[str]:
    """What a search looks at: the messages, or what stands in a row that is no conversation."""
    return texts_of(look.conversation) or [str(raw.row)]


# -------------------------------------------------------------------------------------------------------- as JSON


def row_json(shown: Shown, tokenizer: ChatTokenizer | None) -> dict[str, Any]:
    """A row with the ids and labels it is trained as (-100 where not trained) and its answers' weights, before windows."""
    look = shown.look
    documents = []
    if tokenizer is not None:
        documents = [
            {
                "ids": each.ids,
                "labels": each.labels,
                "text": tokenizer.decode(each.ids, keep_special=True),
                "weights": each.weights,
            }
            for each in look.documents
        ]
    return {
        "row": shown.number,
        "line": shown.line,
        "used": not shown.reason,
        "reason": shown.reason,
        "changes": sorted(look.changes),
        "left_out": sorted(look.left_out),
        **look.conversation.as_row(),
        "documents": documents,
    }


def stats_json(measured: Measured, config: Config) -> dict[str, Any]:
    """The report of preparing, with the histogram and how full packed rows are."""
    return {**measured.report, "histogram": histogram(measured.lengths), "packed": packed_json(measured)}


def packed_json(measured: Measured) -> dict[str, Any]:
    """`fill`: tokens in the rows of the training split, as a share of what the rows hold."""
    rows, capacity = measured.packed
    tokens = measured.report["splits"]["train"]["tokens"]
    return {"rows": rows, "row_tokens": capacity, "fill": round(tokens / (rows * capacity), 4) if rows else 0.0}


# ------------------------------------------------------------------------------------------------------ for a person


def print_row(shown: Shown, tokenizer: ChatTokenizer | None, max_seq_len: int) -> None:
    """A row as the model will see it: trained tokens tinted and the rest dim, or trained ones in brackets without colour."""
    look = shown.look
    documents = [rendered(document, tokenizer) for document in look.documents] if tokenizer else []
    out(_head(shown, documents), "bold")
    if shown.reason:
        out(f"✘ not used: {shown.reason}", "amber")
    if look.changes:
        out(", ".join(sorted(look.changes)), "dim")
    if look.left_out:
        out(f"not used: {', '.join(sorted(look.left_out))}", "amber")
    if len(documents) > 1:
        out(f"trained turn by turn, in {len(documents)}: the template writes earlier turns differently later on", "dim")
    if any(document["tokens"] > max_seq_len for document in documents):
        out(f"longer than {counted(max_seq_len)} tokens: trained in overlapping windows", "dim")
    if words := weights_in_words(documents):
        out(words, "dim")
    for document in documents:
        _print_document(document)
    if not documents:
        for role, text in shortened(look.conversation):
            out(role, "dim")
            for line in text.splitlines():
                out(line)
    out()


def _head(shown: Shown, documents: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"row {counted(shown.number)}" + (f" (line {counted(shown.line)})" if shown.line != shown.number else "")]
    if documents:
        tokens, trained = sum(each["tokens"] for each in documents), sum(each["trained"] for each in documents)
        parts += [f"tokens {counted(tokens)}", f"trained {counted(trained)} ({100 * trained / tokens:.0f} %)"]
    if turns := turns_of(shown.look.conversation):
        parts.append(f"{turns} turn{'s' * (turns > 1)}")
    return "    ".join(parts)


def _print_document(document: Mapping[str, Any]) -> None:
    lines: list[list[tuple[str, Colour | None]]] = [[]]
    in_colour = colours(sys.stdout)
    for text, trained in document["parts"]:
        marked = text if in_colour or not trained else f"⟦{text}⟧"
        first, *more = marked.split("\n")
        lines[-1].append((first, "tint" if trained else "dim"))
        lines += [[(piece, "tint" if trained else "dim")] for piece in more]
    if not any(text for text, _ in lines[-1]):  # most templates end a turn with a line break
        lines.pop()
    for line in lines:
        out_parts(line)
    if document["left_out"]:
        out(f"… {counted(document['left_out'])} more characters", "amber")


def stats_lines(measured: Measured, config: Config) -> Iterator[str]:
    """What a person should know of a file before training on it."""
    report, packed = measured.report, packed_json(measured)
    splits = report["splits"]
    tokens, trained = (sum(splits[name][what] for name in splits) for what in ("tokens", "trained_tokens"))
    facts = [("rows", counted(report["rows"])), ("used", counted(report["kept"]))]
    facts += [("rejected", counted(report["rejected_rows"])), ("same as another", counted(report["duplicates"]))]
    facts += [(name, counted(splits[name]["conversations"])) for name in splits]
    facts += [("tokens", counted(tokens)), ("trained", f"{counted(trained)} ({100 * trained / max(1, tokens):.0f} %)")]
    lengths = report["conversation_tokens"]
    facts += [("a conversation", "   ".join(f"{name} {counted(value)}" for name, value in lengths.items()) + " tokens")]
    if report["windowed_documents"]:
        facts += [
            ("in windows", f"{counted(report['windowed_documents'])} longer than {counted(config.data.max_seq_len)} tokens")
        ]
    facts += [
        (
            "training rows",
            f"{counted(packed['rows'])} of {counted(packed['row_tokens'])} tokens, {100 * packed['fill']:.0f} % full",
        )
    ]
    width = max(len(name) for name, _ in facts)
    yield from (f"{name:<{width}}  {value}" for name, value in facts)
    if sources := report.get("sources"):
        yield from ("", "sources", *(f"  {in_words(entry)}" for entry in sources))
    if leaks := in_words_of_leaks(report["leaks"]):
        yield from ("", *leaks)
    if grouped := Grouped(**report["grouped"]).in_words():
        yield from ("", "held out together", *(f"  {line}" for line in grouped))
    if report["rejected_in_words"]:
        yield from ("", "rejected", *(f"  {parts}" for parts in report["rejected_in_words"]))
    yield from ("", "tokens a conversation", *histogram_lines(histogram(measured.lengths)))


def histogram_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A bar a bin, bins merged by twos until there are at most `_MOST_BARS`."""
    counts, width = list(found["counts"]), found["width"]
    while len(counts) > _MOST_BARS:
        counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        width *= 2
    label = len(counted(len(counts) * width))
    for number, count in enumerate(counts):
        low, high = counted(number * width), counted((number + 1) * width - 1)
        bar = "▇" * -(-count * _BAR_WIDTH // max(counts))
        yield f"  {low:>{label}}–{high:<{label}}  {bar:<{_BAR_WIDTH}}  {counted(count)}".rstrip()
