"""Every id that a tokenizer can give has a row in the model's embedding, or the model is refused with both numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import Message
from tests import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.save_tokenizer(tmp_path, template=tiny.CHATML, llama=False)
    return tmp_path


def highest(folder: Path) -> int:
    document = json.loads((folder / "tokenizer.json").read_text())
    return max(*document["model"]["vocab"].values(), *(token["id"] for token in document["added_tokens"]))


def load(folder: Path, rows: int, **config: Any) -> ChatTokenizer:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": rows} | config))
    return ChatTokenizer.load(BaseModel(folder, "folder", "small"))


def add(folder: Path, token: str, *, special: bool) -> None:
    from transformers import AddedToken, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(token, special=special)], special_tokens=special)
    tokenizer.save_pretrained(folder)


def test_an_embedding_with_a_row_for_every_id_will_do(folder: Path) -> None:
    last = highest(folder)
    assert load(folder, last + 1).encode_prompt([Message(role="user", content="Hi")])
    with pytest.raises(
        BadInput, match=f"its tokenizer gives ids up to {last:,}, and the embedding of the model has {last:,} rows"
    ):
        load(folder, last)


def test_a_token_that_was_added_needs_a_row(folder: Path) -> None:
    rows = highest(folder) + 1
    add(folder, "Zürich", special=False)
    with pytest.raises(BadInput, match=f"gives ids up to {rows:,}, and the embedding of the model has {rows:,} rows"):
        load(folder, rows)


def test_a_special_token_that_the_template_writes_needs_a_row(folder: Path) -> None:
    rows = highest(folder) + 1
    add(folder, "<|note|>", special=True)
    (folder / "chat_template.jinja").write_text("<|note|>" + tiny.CHATML)
    with pytest.raises(BadInput, match=rf"its special token <\|note\|> has the id {rows:,}, and the embedding has {rows:,} rows"):
        load(folder, rows)


def test_a_special_token_that_pads_needs_a_row(folder: Path) -> None:
    rows = highest(folder) + 1
    add(folder, "[PAD]", special=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "[PAD]"}))
    with pytest.raises(BadInput, match=r"its special token \[PAD\] has the id"):
        load(folder, rows)


def test_a_config_that_pads_with_an_id_beyond_is_refused(folder: Path) -> None:
    rows = highest(folder) + 1
    with pytest.raises(BadInput, match=f"config.json pads with the id {rows:,}, and the embedding has {rows:,} rows"):
        load(folder, rows, pad_token_id=rows)
    assert load(folder, rows, pad_token_id=rows - 1)


def test_a_special_token_that_nothing_writes_needs_none_and_stays_text_where_it_is_typed(folder: Path) -> None:
    # Gemma 3's text models share a tokenizer with the token of an image.
    rows = highest(folder) + 1
    add(folder, "<image>", special=True)
    tokenizer = load(folder, rows)
    talk = [Message(role="user", content="What is <image>?"), Message(role="assistant", content="<image>")]
    (document,) = tokenizer.encode_conversation(talk)
    assert max(document.ids) < rows and max(tokenizer.encode_prompt(talk[:1])) < rows


def test_a_template_that_writes_it_all_the_same_is_a_reason_and_no_id_beyond(folder: Path) -> None:
    rows = highest(folder) + 1
    add(folder, "<image>", special=True)
    in_pieces = "{% if messages[0].content == 'look' %}{{ '<im' + 'age>' }}{% endif %}"
    (folder / "chat_template.jinja").write_text(in_pieces + tiny.CHATML)
    tokenizer = load(folder, rows)
    asked = [Message(role="user", content="look")]
    for ask in (lambda: tokenizer.encode_prompt(asked), lambda: tokenizer.encode_conversation([*asked, *asked[:0], ANSWER])):
        with pytest.raises(BadInput, match="a special token that the model's embedding has no row for"):
            ask()


ANSWER = Message(role="assistant", content="A cat.")
