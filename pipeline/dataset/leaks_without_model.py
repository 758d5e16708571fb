"""What belongs to held-out rows of a person's own, found out without a model: words stand for the tokens that it would have."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.dataset import source
from pipeline.dataset.cleaning import digest
from pipeline.dataset.grouping import Grouping
from pipeline.dataset.leaks import found_in
from pipeline.dataset.readers.manifest import Met, own_splits, sources_of
from pipeline.dataset.row import conversation_of
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.runs.folders import Workspace
from pipeline.tokenization.messages import Conversation


def leaks(config: Config, workspace: Workspace) -> dict[str, Any]:
    """As `Leaks.to_json`; {} where the config names no rows for val or test. Raises as reading does."""
    if not config.data.held_out_paths:
        return {}
    with source.as_file(config, workspace) as path:
        sources, config = sources_of(path), with_schema(config, path)
        met, grouping = Met(sources), Grouping()
        names, numbers, of = list[bytes](), list[int](), list[int]()
        for raw in reader_for(config, path).rows(path):
            try:
                conversation, _, _, origin = conversation_of(raw, config)
            except BadInput:
                continue
            name, among = digest(conversation), met.among(raw.form)
            if name in among:
                continue
            among.add(name)
            grouping.add(conversation, origin, (words_of(conversation),))
            names.append(name)
            numbers.append(raw.number)
            of.append(raw.form.number if raw.form else 0)
    if not names:
        return {}
    return found_in(names, grouping.groups(names), own_splits(sources)[np.array(of)]).to_json(numbers)


def words_of(conversation: Conversation) -> NDArray[np.uint32]:
    """A number for each word of the answers."""
    answers = [message["content"] for message in conversation.messages if message["role"] == "assistant"] or [conversation.text]
    words = (word for answer in answers for word in answer.split())
    return np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], dtype=np.uint32)
