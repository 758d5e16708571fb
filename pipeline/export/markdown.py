"""The little Markdown and YAML the cards need."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def front_matter(values: Mapping[str, Any]) -> str:
    """A YAML block; texts are written as JSON, which is YAML."""
    lines = ["---"]
    for key, value in values.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {json.dumps(each, ensure_ascii=False)}" for each in value)]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, "---"])


def plain(text: str) -> str:
    """`text` as it reads, on one line: nothing in it is Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#~])", r"\\\1", " ".join(text.split()))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
