"""Prepared rows of a version that grouped them otherwise: whether any group came apart, found out from what was prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset.cleaning import digest
from pipeline.dataset.grouping import Grouping
from pipeline.dataset.near_duplicates import Tokens
from pipeline.dataset.processed import GROUPS_VERSION, SPLITS, ProcessedData, Split
from pipeline.tokenization.messages import NOT_TRAINED, Conversation

_ROWS_AT_ONCE = 1000


def came_apart(data: ProcessedData) -> int:
    """Held-out conversations that belong to a group of which others are in another split; 0 where they are grouped as today."""
    if is_grouped(data):
        return 0
    grouping, names, split_of = Grouping(), list[bytes](), list[int]()
    for number, split in enumerate(SPLITS):
        for row, trained in zip(data.rows(split), _trained(data, split), strict=True):
            conversation = _conversation(row)
            names.append(digest(conversation))
            grouping.add(conversation, "", trained)
            split_of.append(number)
    if not names:
        return 0
    groups, splits = grouping.groups(names).of, np.array(split_of)
    least, most = (np.full(groups.max() + 1, start) for start in (len(SPLITS), -1))
    np.minimum.at(least, groups, splits)
    np.maximum.at(most, groups, splits)
    return int(((least != most)[groups] & (splits > 0)).sum())


def is_grouped(data: ProcessedData) -> bool:
    """Whether the rows were divided in groups as they are found today."""
    return bool(data.report.get("groups_version", 0) >= GROUPS_VERSION)


def _conversation(row: Mapping[str, Any]) -> Conversation:
    """As `Conversation.as_row` wrote it."""
    tools, arguments = tuple(row.get("tools", ())), row.get("chat_template_kwargs", {})
    return Conversation(tuple(row.get("messages", ())), tools, arguments, row.get("text", ""))


def _trained(data: ProcessedData, split: Split) -> Iterator[list[Tokens]]:
    """Of each conversation of a split, in turn, the tokens that are trained; none where windows do not say whose they are."""
    of_all, conversations = data.owners(split), data.report["splits"][split]["conversations"]
    if np.unique(of_all).size != conversations:
        yield from ([] for _ in range(conversations))
        return
    owners, before, stretches = iter(of_all.tolist()), None, list[Tokens]()
    for labels in _labels(data, split):
        owner = next(owners)
        if before is not None and owner != before:
            yield stretches
            stretches = []
        before = owner
        stretches.append(labels[labels != NOT_TRAINED])
    if before is not None:
        yield stretches


def _labels(data: ProcessedData, split: Split) -> Iterator[NDArray[np.int32]]:
    for table in data.dataset(split).with_format("arrow").iter(_ROWS_AT_ONCE):
        column: pa.ListArray = table["labels"].combine_chunks()
        values, offsets = column.values.to_numpy(), column.offsets.to_numpy()
        yield from (values[begin:end] for begin, end in pairwise(offsets))
