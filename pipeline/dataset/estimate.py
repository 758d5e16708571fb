"""How much there is to train on, guessed from the first thousand lines of the raw file, before anything is tokenized.

About four characters a token (English text in today's vocabularies); the plan marks what rests on it with ≈.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.config import Config, DataSection
from pipeline.dataset.processed import raw_file
from pipeline.errors import BadInput
from pipeline.planning import DataFigures
from pipeline.runs import Workspace

SAMPLE_LINES = 1000
CHARACTERS_A_TOKEN = 4
TEMPLATE_TOKENS = 6  # around each message: role, separators, terminator
PACKED_SHARE = 0.95  # how full best-fit rows are


@dataclass(frozen=True)
class _Sample:
    """Tokens of each conversation of the sample, and of its trained part."""

    tokens: list[int]
    trained: list[int]


def estimate_figures(config: Config, workspace: Workspace) -> DataFigures:
    """Figures of one epoch of the training split, `exact` False.

    Raises:
        BadInput: the file is missing or cannot be read, or no row of the sample has the schema of the config.
    """
    path = raw_file(config, workspace)
    if not path.is_file():
        hint = "humigence config set data.raw_path PATH; data.source bundled takes the demo rows"
        raise BadInput(f"data.raw_path: {path} is not there", hint)
    try:
        with path.open("rb") as file:
            lines = list(islice(file, SAMPLE_LINES))
            read = file.tell()
        size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"data.raw_path: {path}: {error.strerror}") from error
    sample = _measure(lines, config.data)
    if not sample.tokens:
        name = config.data.row_schema
        raise BadInput(f"{path}: none of the first {len(lines)} lines is a {name} row", "humigence validate tells what is wrong")
    share = config.data.split.train * (size / read if read else 1.0)
    return _scaled(sample, share, config.data)


def _measure(lines: Iterable[bytes], data: DataSection) -> _Sample:
    sample = _Sample([], [])
    for line in lines:
        turns = _turns(line, data.row_schema)
        if turns:
            lengths = [(trained, len(text) / CHARACTERS_A_TOKEN) for trained, text in turns]
            sample.tokens.append(math.ceil(sum(length + TEMPLATE_TOKENS for _, length in lengths)))
            sample.trained.append(math.ceil(sum(length + 1 for trained, length in lengths if trained)))
    return sample


def _turns(line: bytes, schema: str) -> list[tuple[bool, str]]:
    """(whether it is trained, text) of each message; empty for a line that is no row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    if not isinstance(row, dict):
        return []
    if schema == "chat_messages":
        messages = row.get("messages")
        return [turn for each in messages if (turn := _turn(each))] if isinstance(messages, list) else []
    parts: list[Any] = [row.get("instruction"), row.get("input") or "", row.get("output")]
    if not all(isinstance(part, str) for part in parts):
        return []
    return [(False, parts[0] + parts[1]), (True, parts[2])]


def _turn(message: Any) -> tuple[bool, str] | None:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        return None
    return message.get("role") == "assistant", message["content"]


def _scaled(sample: _Sample, share: float, data: DataSection) -> DataFigures:
    """The sample's figures for the whole split: `share` is how many times the sample it is."""
    capacity = data.max_seq_len
    short = [min(tokens, capacity) for tokens in sample.tokens] if data.over_long == "drop" else sample.tokens
    tokens = sum(short) * share
    conversations = max(1, round(len(sample.tokens) * share))
    if data.packing:
        rows = math.ceil(tokens / (capacity * PACKED_SHARE))
    else:
        rows = round(sum(math.ceil(length / capacity) for length in short) * share)
    return DataFigures(max(1, rows), conversations, round(tokens), round(sum(sample.trained) * share), exact=False)
