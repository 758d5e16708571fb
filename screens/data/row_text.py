"""What the rows of a data file look like on the screen: plain functions of what the `rows` job emits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.content import Content

from pipeline.common.text import counted, safe
from pipeline.dataset.leaks import in_words
from pipeline.dataset.split import Grouped

TRAINED, MASKED = "$tint", "$dim"
_GAP = "    "
_FEWEST_BINS = 8
_ROOMY = 24  # lines for the figures of a file one below the other


def facts_line(row: Mapping[str, Any], only: str, count: Mapping[str, Any] | None, width: int, needle: str = "") -> Content:
    """`row 17 of 8,412    tokens 214    trained 131 (61 %)    2 turns            rejected 23`, as much as fits."""
    rows = counted(count["rows"]) if count else "…"
    number = f"row {counted(row['row'])} of {rows}"
    if row["line"] != row["row"]:
        number += f" (line {counted(row['line'])})"
    facts = [Content.styled(number, "bold"), *_of_documents(row)]
    if row["turns"]:
        facts.append(Content(f"{row['turns']} turn{'s' * (row['turns'] > 1)}"))
    if row["split"] and only == "all":
        facts.append(Content.styled(row["split"], "$dim"))
    right = Content("")
    if only != "all":
        which, of = row["fits"]
        right = Content.styled(f"{only} {counted(which)} of {counted(of)}", "$warning" * (only == "rejected"))
    elif count and (left_out := count["rejected"] + count["twins"]):
        right = Content.styled(f"rejected {counted(left_out)}", "$dim")
    if needle:
        right = Content.assemble((f"/{safe(needle)}", "$dim"), _GAP if right else "", right)
    while len(facts) > 1 and sum(fact.cell_length + 4 for fact in facts) + right.cell_length > width:
        facts.pop()
    left = Content(_GAP).join(facts)
    return Content.assemble(left, " " * max(2, width - left.cell_length - right.cell_length), right)


def _of_documents(row: Mapping[str, Any]) -> list[Content]:
    documents = row["documents"]
    if not documents:
        return []
    tokens, trained = sum(each["tokens"] for each in documents), sum(each["trained"] for each in documents)
    share = f"({100 * trained / tokens:.0f} %)"
    return [Content(f"tokens {counted(tokens)}"), Content.assemble("trained ", (counted(trained), TRAINED), f" {share}")]


def row_content(row: Mapping[str, Any], max_seq_len: int) -> Content:
    """The rendering, trained tokens tinted; or the text as it is written, where there is no rendering."""
    lines: list[Content] = []
    if row["reason"]:
        lines += [Content.assemble(("✘ ", "$warning"), ("not used: ", "bold"), safe(row["reason"])), Content("")]
    if len(row["documents"]) > 1:
        reason = f"trained turn by turn, in {len(row['documents'])}: the template writes earlier turns differently later on"
        lines += [Content.styled(reason, "$dim")]
    if any(each["tokens"] > max_seq_len for each in row["documents"]):
        lines += [Content.styled(f"longer than {counted(max_seq_len)} tokens: trained in overlapping windows", "$dim")]
    if row["weights"]:
        lines += [Content.styled(row["weights"], "$dim")]
    if row["changes"]:
        lines += [Content.styled(", ".join(map(safe, row["changes"])), "$dim")]
    for number, document in enumerate(row["documents"]):
        lines += [Content.styled(f"── {number + 1}", "$faint")] * (len(row["documents"]) > 1)
        lines += [document_content(document)]
    lines += [_plain(role, text) for role, text in row["plain"]]
    return Content("\n").join(lines)


def with_matches(text: Content, needle: str) -> tuple[Content, int | None]:
    """`text` with what was searched for lit, and where the first of it begins; None where it is not in what is shown."""
    plain, wanted = text.plain.casefold(), needle.casefold()
    if not wanted or len(plain) != len(text.plain):  # folding that changes lengths would light something else
        return text, None
    first = at = plain.find(wanted)
    while at >= 0:
        text = text.stylize("reverse", at, at + len(wanted))
        at = plain.find(wanted, at + len(wanted))
    return text, first if first >= 0 else None


def document_content(document: Mapping[str, Any]) -> Content:
    """One document: every piece of text as the tokenizer decodes it, tinted where it is trained and dim where it is masked."""
    parts = [Content.styled(safe(text, lines=True), TRAINED if trained else MASKED) for text, trained in document["parts"]]
    if document["left_out"]:
        parts.append(Content.styled(f"\n… {counted(document['left_out'])} more characters", "$warning"))
    return Content("").join(parts)


def _plain(role: str, text: str) -> Content:
    head = Content.styled(f"{safe(role)}\n", "$dim") if role else Content("")
    return Content.assemble(head, safe(text, lines=True), "\n" if role else "")


def reasons_line(count: Mapping[str, Any]) -> Content:
    """`rejected: 14 no assistant turn (line 3) · 6 …`; says so when nothing is."""
    parts = _reasons(count)
    if not parts:
        done = count["finished"]
        return Content.styled("every row can be used" if done else "no row rejected so far", "$dim")
    return Content.assemble(("rejected: ", "$dim"), Content(" · ").join(parts))


def _reasons(count: Mapping[str, Any]) -> list[Content]:
    """Each reason with how many rows it is of; rows that are there twice are listed last."""
    parts = [_reason(reason, each, count.get("unit", "line")) for reason, each in count["reasons"].items()]
    if count.get("left_out"):
        parts.append(Content.assemble((counted(count["left_out"]), "bold"), " belong to held-out rows of your own"))
    if count["twins"]:
        parts.append(Content.assemble((counted(count["twins"]), "bold"), " the same as an earlier row"))
    return parts


def _reason(reason: str, each: Mapping[str, Any], unit: str) -> Content:
    lines = each["lines"][:3]
    more = ", …" if each["rows"] > len(lines) else ""
    where = f" ({unit}{'s' * (each['rows'] > 1)} {', '.join(map(counted, lines))}{more})"
    return Content.assemble((counted(each["rows"]), "bold"), f" {safe(reason)}", (where, "$dim"))


def panel(count: Mapping[str, Any] | None, max_seq_len: int, width: int, height: int) -> Content:
    """The whole file: what is used, what is not and why, and how long the conversations are."""
    if count is None:
        return Content.styled("reading …", "$dim")
    if height < _ROOMY:
        # The reasons stand below.
        return Content("\n").join([*_few_totals(count), *histogram_lines(count["histogram"], width, height - 2)])
    lines = [*_totals(count, max_seq_len), Content("")]
    if grouped := Grouped(**count["grouped"]).in_words():
        lines.append(Content.styled("held out together", "$dim"))
        for line in grouped:
            lines += [part.pad_left(2 * bool(number)) for number, part in enumerate(Content(line).wrap(max(10, width - 2)))]
        lines.append(Content(""))
    for line in in_words(count.get("leaks", {})):
        indent = 2 * line.startswith("  ")
        lines += [
            part.pad_left(indent) for part in Content.styled(line.strip(), "" if indent else "$warning").wrap(max(10, width - 2))
        ]
    reasons = _reasons(count)
    if reasons:
        lines.append(Content.styled("rejected", "$dim"))
        for reason in reasons[: max(3, height // 4)]:
            lines += [part.pad_left(2 * bool(number)) for number, part in enumerate(reason.wrap(max(10, width - 2)))]
        lines.append(Content(""))
    return Content("\n").join([*lines, *histogram_lines(count["histogram"], width, height - len(lines))])


def _few_totals(count: Mapping[str, Any]) -> list[Content]:
    left_out = count["twins"] + count["rejected"] + count.get("left_out", 0)
    rows = f"{counted(count['kept'])} of {counted(count['rows'])} rows used · {counted(left_out)} rejected"
    splits = [f"{name} {counted(rows)}" for name, rows in count["splits"].items() if rows]
    share = f" ({100 * count['trained_tokens'] / count['tokens']:.0f} %)" if count["tokens"] else ""
    tokens = f"{counted(count['tokens'])} tokens · {counted(count['trained_tokens'])} trained{share}"
    together = [f"{counted(count['grouped']['rows'])} in groups"] if count["grouped"].get("rows") else []
    return [Content(rows), Content(" · ".join([*splits, *together, tokens]))]


def _totals(count: Mapping[str, Any], max_seq_len: int) -> list[Content]:
    facts = [("rows", count["rows"]), ("used", count["kept"]), ("rejected", count["twins"] + count["rejected"])]
    facts += [("left out (held out)", count["left_out"])] if count.get("left_out") else []
    facts += list(count["splits"].items()) if sum(count["splits"].values()) else []
    facts += [("tokens", count["tokens"]), ("of them trained", count["trained_tokens"])] if count["tokens"] else []
    facts += [("longest row allowed", max_seq_len)]
    return [Content.assemble((f"{name:<20}", "$dim"), f"{counted(value):>12}") for name, value in facts]


def histogram_lines(histogram: Mapping[str, Any], width: int, height: int) -> list[Content]:
    """A bar a bin, bins merged by twos until there is room for them; empty ones at both ends are left out."""
    counts, bin_width = list(histogram["counts"]), histogram["width"]
    if not counts:
        return [Content.styled("lengths: known with the base model's tokenizer", "$dim")]
    head = f"tokens a conversation   median {counted(histogram['median'])}   longest {counted(histogram['longest'])}"
    first = next(number for number, each in enumerate(counts) if each)
    # No more bins than conversations: of a dozen, most would be empty.
    while len(counts) - first > max(3, min(height - 1, max(_FEWEST_BINS, sum(counts)))):
        counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        bin_width, first = bin_width * 2, first // 2
    most = max(counts)
    label = len(counted(len(counts) * bin_width))
    room = max(4, width - 2 * label - len(counted(most)) - 6)
    lines = [Content.styled(head, "$dim")]
    for number in range(first, len(counts)):
        low, high = counted(number * bin_width), counted((number + 1) * bin_width - 1)
        bar = "▇" * -(-counts[number] * room // most)
        lines.append(
            Content.assemble(
                (f"{low:>{label}}–{high:<{label}} ", "$dim"), (f"{bar:<{room}} ", "$chart-line"), counted(counts[number])
            )
        )
    return lines
