"""Rows to measure with: those of a file, numbered on until there are enough, or made-up ones of realistic lengths."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

_SYLLABLES = (
    "ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "wa", "ye", "zi", "an", "el", "in",
    "or", "us", "th", "sh", "st", "ing", "ed", "er", "ly",
)  # fmt: skip
_COMMON = (
    "the", "of", "and", "to", "a", "in", "is", "that", "it", "for", "on", "with", "as", "was", "at", "by", "this", "be", "are",
    "from", "or", "have", "not", "you", "an", "which",
)  # fmt: skip


def write_rows(path: Path, count: int, source: Path | None = None) -> Path:
    """`count` rows of `chat_messages`, each different, to `path`; returns the file of the same as prompt and completion.

    Args:
        source: a JSON list or JSONL, of messages or of instruction, input and output.
    """
    turns = islice(cycle(_of_file(source)) if source else _made_up(), count)
    halves = path.with_suffix(".halves.jsonl")
    with path.open("w", encoding="utf-8") as file, halves.open("w", encoding="utf-8") as other:
        for number, (question, answer) in enumerate(turns):
            asked, said = {"role": "user", "content": f"{question} ({number})"}, {"role": "assistant", "content": answer}
            file.write(json.dumps({"messages": [asked, said]}, ensure_ascii=False) + "\n")
            other.write(json.dumps({"prompt": [asked], "completion": [said]}, ensure_ascii=False) + "\n")
    return halves


def _of_file(source: Path) -> list[tuple[str, str]]:
    text = source.read_text(encoding="utf-8")
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(row) for row in text.splitlines()]
    return [pair for pair in map(_pair, rows) if all(part.strip() for part in pair)]


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    if "messages" in row:
        spoken = [message["content"] for message in row["messages"] if message["role"] != "system"]
        return spoken[0], spoken[1]
    return "\n\n".join(part for part in (row["instruction"], row.get("input")) if part), row["output"]


def _made_up() -> Iterator[tuple[str, str]]:
    """Words with the frequencies of a language (Zipf), answers of log-normal length with a median of about 120 words."""
    draw = random.Random(1)
    words = [*_COMMON, *("".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4))) for _ in range(5000))]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    while True:
        asked, said = (max(3, min(700, int(draw.lognormvariate(*shape)))) for shape in ((3.0, 0.6), (4.8, 0.8)))
        yield _text(draw.choices(words, weights, k=asked)), _text(draw.choices(words, weights, k=said))


def _text(words: list[str]) -> str:
    """Sentences of twelve words, in paragraphs."""
    sentences = [" ".join(words[at : at + 12]).capitalize() + "." for at in range(0, len(words), 12)]
    return "\n\n".join(" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4))
