"""Where the card says the rows come from: only what is so."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.dataset.source import made
from pipeline.export.dataset_card import origin


def card(config: Config, content: bytes | None, **report: Any) -> str:
    told = {"raw_path": "/home/joan/rows.jsonl", "schema": "chat_messages", "model": "TinyLlama"}
    return origin(config, {**told, "raw_sha256": hashlib.sha256(content or b"").hexdigest(), **report})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"source": "bundled"}, "the demo rows that come with Humigence"),
        ({"source": "generated", "generate": {"rows": 4, "topics": ["home"]}}, "`humigence data generate`, topics home, seed 42"),
    ],
)
def test_rows_that_humigence_made_say_so_while_they_are_what_it_makes(data: dict[str, Any], told: str) -> None:
    config = Config(data=data)  # type: ignore[arg-type]
    assert told in card(config, made(config))
    assert told not in card(config, b"other rows at the same place")
    assert "/home/joan" not in card(config, made(config))


def test_the_template_named_is_the_one_the_rows_were_written_by() -> None:
    assert "the chat template of TinyLlama" in card(Config(), None)
    assert "the chat template of TinyLlama" in card(Config(), None, template="auto")
    assert "the chat template alpaca, for TinyLlama" in card(Config(), None, template="alpaca")
