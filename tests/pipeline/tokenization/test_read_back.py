"""What a tokenizer makes of a text can be read again, or it is said how much can't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import Message
from pipeline.tokenization.read_back import ReadBack
from tests import tiny
from tests.pipeline.tokenization.samples import FRAGMENTS

TEXTS = [text for text in FRAGMENTS if text.strip() and "\ue000" not in text and "\U000f0000" not in text]


def tokenizer_with(folder: Path, *, llama: bool = False, **changes: Any) -> ChatTokenizer:
    """A tokenizer whose JSON has other parts; those of `model` are put into it."""
    tiny.save_tokenizer(folder, template=tiny.ZEPHYR if llama else tiny.CHATML, llama=llama)
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"] |= changes.pop("model", {})
    (folder / "tokenizer.json").write_text(json.dumps(document | changes))
    return ChatTokenizer.from_folder(folder)


@pytest.mark.parametrize("llama", [True, False])
def test_a_tokenizer_with_bytes_gives_every_text_back(tmp_path: Path, llama: bool) -> None:
    tokenizer = tokenizer_with(tmp_path, llama=llama)
    characters = sum(len("".join(text.split())) for text in TEXTS)
    found = tokenizer.read_back_texts(TEXTS)
    assert (found.texts, found.changed, found.lost) == (len(TEXTS), 0, 0)
    assert abs(found.characters - characters) < 5


def test_what_the_vocabulary_lacks_is_counted(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, llama=True, model={"byte_fallback": False})
    found = tokenizer.read_back_texts(["The capital", "日本 is it", "a 😀"])
    assert (found.texts, found.changed, found.unknown, found.lost) == (3, 2, 2, 3)
    assert found.is_too_much and "2 of 3 texts" in found.in_words("X") and "no tokens for it" in found.in_words("X")
    assert not tokenizer.read_back_texts(["The capital of France is Paris. " * 10, "😀"]).is_too_much


@pytest.mark.parametrize("kind", ["Lowercase", "NFKC", "StripAccents"])
def test_what_a_normalizer_does_is_no_loss(tmp_path: Path, kind: str) -> None:
    tokenizer = tokenizer_with(tmp_path, normalizer={"type": kind})
    texts = ["The Capital", "ﬁne ½", "e\u0301t\u00e9"]
    assert any(tokenizer.decode(tokenizer._special.encode(text)) != text for text in texts), "it does something"
    assert tokenizer.read_back_texts(texts).changed == 0


def test_a_tokenizer_that_has_no_token_for_a_word_is_too_much(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path)
    talk = [Message(role="user", content="The capital?"), Message(role="assistant", content="Paris it is.")]
    drafts = tokenizer.drafts(talk)
    whole = tokenizer.read_back(zip(drafts, tokenizer.encode(drafts), strict=True))
    assert (whole.changed, whole.lost) == (0, 0) and whole.characters > 20
    dropped = tokenizer._special.read_back(drafts[0].text, [number for number in tokenizer.encode_prompt(talk[:1]) if number < 3])
    assert dropped.changed == 1 and ReadBack(1, 1, 0, dropped.characters, dropped.lost).is_too_much
    assert "reads as X, drops or changes it" in dropped.in_words("X")


def test_another_text_of_the_same_length_is_lost(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path)
    found = tokenizer._special.read_back("Paris", tokenizer._special.encode("Milan"))
    assert found.changed == 1 and found.lost >= 3
    assert tokenizer._special.read_back("ab", tokenizer._special.encode("ba")).lost == 1, "another order is another text"
