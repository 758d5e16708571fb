"""How much there is to train on, guessed from the first thousand rows of the raw file, before anything is tokenized.

About four characters a token (English text in today's vocabularies); the plan marks what rests on it with ≈.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, DataSection
from pipeline.dataset import source
from pipeline.dataset.figures import DataFigures
from pipeline.dataset.packing import row_capacity
from pipeline.dataset.readers.file_check import RAW_PATH_HINT, require_readable
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.row import data_of
from pipeline.dataset.schemas.read import read
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.runs.folders import Workspace
from pipeline.tokenization.messages import Message

SAMPLE_ROWS = 1000
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
    with source.as_file(source.divided_only(config), workspace) as path:
        require_readable(path, missing_hint=RAW_PATH_HINT)
        for split, held_out in config.data.held_out_paths.items():
            require_readable(workspace.resolve(held_out), f"data.{split}_path")
        return _estimated(path, config)


def _estimated(path: Path, config: Config) -> DataFigures:
    try:
        reader = reader_for(config, path)
        rows = list(islice(reader.rows(path), SAMPLE_ROWS))
        total = rows[-1].number if len(rows) < SAMPLE_ROWS else reader.count(path)
    except IndexError as error:
        raise BadInput(f"{path}: there is no row in it", "one JSON object a line") from error
    except OSError as error:
        raise BadInput(f"data.raw_path: {path} cannot be read: {error.strerror}") from error
    config = with_schema(config, path)
    sample = _measure(rows, config.data)
    if not sample.tokens:
        name = config.data.row_schema
        raise BadInput(f"{path}: none of the first {len(rows)} rows is a {name} row", "humigence validate tells what is wrong")
    return _scaled(sample, config.data.shares.train * total / rows[-1].number, config.data)


def _measure(rows: Iterable[RawRow], data: DataSection) -> _Sample:
    sample = _Sample([], [])
    for raw in rows:
        try:
            said = read(raw.row, data_of(raw, data)).conversation
        except BadInput:
            continue
        messages = said.messages or (Message(role="assistant", content=said.text),)
        lengths = [(each["role"], len(each["content"]) / CHARACTERS_A_TOKEN) for each in messages]
        sample.tokens.append(math.ceil(sum(length + TEMPLATE_TOKENS for _, length in lengths)))
        sample.trained.append(math.ceil(sum(length + 1 for role, length in lengths if role == "assistant")))
    return sample


def _scaled(sample: _Sample, share: float, data: DataSection) -> DataFigures:
    """The sample's figures for the whole split: `share` is how many times the sample it is."""
    capacity = data.max_seq_len
    short = [min(tokens, capacity) for tokens in sample.tokens] if data.over_long == "drop" else sample.tokens
    tokens = sum(short) * share
    conversations = max(1, round(len(sample.tokens) * share))
    if data.packing:
        capacity = row_capacity(round(tokens), min(capacity, max(short)), capacity)
        rows = math.ceil(tokens / (capacity * PACKED_SHARE))
    else:
        rows = round(sum(math.ceil(length / capacity) for length in short) * share)
    return DataFigures(max(1, rows), capacity, conversations, round(tokens), round(sum(sample.trained) * share), exact=False)
