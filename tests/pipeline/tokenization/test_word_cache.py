"""Word by word or whole: the same ids, for the tokenizers people use; and no cut where that is not certain."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Metaspace, Sequence, Split

from pipeline.tokenization import word_cache
from pipeline.tokenization.special_tokens import SpecialTokens
from pipeline.tokenization.word_boundaries import seams_of
from tests.pipeline.tokenization.samples import FRAGMENTS

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace("{1,3}", "")
BYTES, ISOLATED = ByteLevel(add_prefix_space=False, use_regex=False), "isolated"
GPT2 = ByteLevel(add_prefix_space=False)
MARKS = normalizers.Replace(" ", "▁")
# (normalizer, pre-tokenizer): those of the models by which each is named.
KINDS: dict[str, tuple[Any, Any]] = {
    "GPT-2": (None, GPT2),
    "SmolLM2": (None, Sequence([Digits(individual_digits=True), GPT2])),
    "Llama-3": (None, Sequence([Split(Regex(LLAMA3), ISOLATED), BYTES])),
    "Qwen2": (normalizers.NFC(), Sequence([Split(Regex(QWEN), ISOLATED), BYTES])),
    "Llama-2": (normalizers.Sequence([normalizers.Prepend("▁"), MARKS]), None),
    "Mistral": (None, Metaspace(prepend_scheme="first", split=False)),
    "always": (None, Metaspace(prepend_scheme="always", split=True)),
    "Gemma": (MARKS, Split(" ", "merged_with_previous")),
}
SPECIALS = ["<s>", "</s>", "<|im_end|>"]
SPACES = ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000", "\u200b", "▁", "▁▁"]
MORE = [
    "р с",
    "’ d",
    "— x",
    "à b",
    "word",
    " word",
    "don't",
    " I'll",
    "!\n",
    "...",
    " (",
    ")",
    "  \n ",
    " \u0301",
    "12 345",
    "a" * 60,
]


def trained(kind: str) -> dict[str, Any]:
    """A tokenizer's JSON, learned from text in which every way of two words to meet comes many times."""
    normalizer, pre_tokenizer = KINDS[kind]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=pre_tokenizer is None, fuse_unk=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", *SPECIALS, *pieces], show_progress=False)
    blank_runs = [f"{blank} {blank}  {blank}" for blank in SPACES]
    texts = [" ".join(FRAGMENTS + MORE), "\n".join(MORE), "word don't I'll (word) 12 345!\n\n  word", *blank_runs] * 3
    # One word a text where words are not kept apart: a merge over two of them is what these models do without.
    apart = kind in ("Llama-2", "Mistral", "Gemma")
    tokenizer.train_from_iterator(
        [f" {word}" for text in texts for word in text.split()] + ["▁▁▁"] * 9 if apart else texts, trainer
    )
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in ("<unk>", *SPECIALS)]
    return document


@lru_cache
def special(kind: str) -> SpecialTokens:
    return SpecialTokens(json.dumps(trained(kind)), [])


texts = st.lists(st.sampled_from([*FRAGMENTS, *SPACES, *MORE, *SPECIALS]), max_size=14).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120, deadline=None)
@given(batch=st.lists(texts, max_size=5))
@example(batch=["\x85 \x85", "▁ ▁▁ word", "\u3000 \u3000"])
def test_words_give_the_ids_of_the_whole(kind: str, batch: list[str]) -> None:
    tokenizer = special(kind)
    assert tokenizer.in_words, "else the library would be compared with itself"
    marked = [tokenizer.mark(text).text for text in batch]
    assert [ids.tolist() for ids in tokenizer.encode_all(marked).each()] == [tokenizer.encode(text) for text in marked]


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_found_and_remembered(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = SpecialTokens(json.dumps(trained(kind)), [])
    asked: list[str] = []
    monkeypatch.setattr(tokenizer._words, "_encode_all", lambda some: asked.extend(some) or tokenizer._encode_whole(some))
    text = tokenizer.mark("<s>one two three two</s>").text
    tokenizer.encode_all([text, text])
    assert [word.removeprefix("a") for word in asked if word.startswith("a")] == [" two", " three"]
    asked.clear()
    tokenizer.encode_all([text])
    assert not asked


def test_a_full_memory_still_gives_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "_MOST_KNOWN", 2)
    tokenizer = SpecialTokens(json.dumps(trained("GPT-2")), [])
    for text in ("one two three four", "four five six", "a NUL \0 in it"):
        assert tokenizer.encode_all([text]).each()[0].tolist() == tokenizer.encode(text)
    assert tokenizer._words and len(tokenizer._words._known) == 2


def changed(kind: str, **change: Any) -> dict[str, Any]:
    document = trained(kind)
    document["model"] |= change.pop("model", {})
    return document | change


def in_json(step: Any) -> Any:
    return json.loads(step.__getstate__())


def added(**flags: Any) -> list[dict[str, Any]]:
    plain = {"id": 5, "content": "<x>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    return [plain | {"special": False} | flags]


UNSURE: dict[str, dict[str, Any]] = {
    "dropout": changed("GPT-2", model={"dropout": 0.1}),
    "a suffix at the end of words": changed("GPT-2", model={"end_of_word_suffix": "</w>"}),
    "a space before each text": changed("GPT-2", pre_tokenizer=in_json(ByteLevel(add_prefix_space=True))),
    "an expression nobody has looked at": changed("Llama-3", pre_tokenizer=in_json(Split(Regex(r"\w+ ?|\s+"), ISOLATED))),
    "white space left to the next step": changed("Llama-3", pre_tokenizer=in_json(Split(Regex(r"\p{N}"), ISOLATED))),
    "another normalizer": changed("GPT-2", normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
    "a token across words": changed("Llama-2", model={"vocab": trained("Llama-2")["model"]["vocab"] | {"of▁the": 9_999}}),
    "no mark for spaces": changed("Llama-2", normalizer=None),
    "tokens that swallow spaces": changed("GPT-2", added_tokens=added(lstrip=True, special=True)),
    "typed tokens that swallow spaces": changed("GPT-2", added_tokens=added(rstrip=True)),
    "tokens that want to stand alone": changed("GPT-2", added_tokens=added(single_word=True)),
    "a token of two words": changed("GPT-2", added_tokens=added(content="two words")),
    "no BPE": changed("GPT-2", model={"type": "Unigram"}),
}


@pytest.mark.parametrize("why", UNSURE)
def test_nothing_is_cut_where_it_is_not_certain(why: str) -> None:
    assert seams_of(UNSURE[why]) is None


def test_a_special_token_may_swallow_what_follows_it() -> None:
    document = trained("GPT-2")
    for token in document["added_tokens"]:
        token["rstrip"] = True
    tokenizer = SpecialTokens(json.dumps(document), [])
    text = tokenizer.mark("<s>  \n one</s> two</s>").text
    assert tokenizer.in_words and tokenizer.encode_all([text]).each()[0].tolist() == tokenizer.encode(text)
