"""Control tokens come from the chat template only: what a person types stays text.

A tokenizer turns the characters `</s>` into the control token wherever they stand. So everything is encoded by a copy of the
tokenizer in which each special token has another name (a marker nobody can type) at the same id. In a rendered conversation
the special tokens the template wrote become their markers, those inside a message stay as they were typed, and the
whole is encoded at once: encoding pieces apart gives other tokens at the seams.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pipeline.tokenization.read_back import ReadBack, compared
from pipeline.tokenization.word_boundaries import seams_of
from pipeline.tokenization.word_cache import Ids, Words

# Texts that something is put behind to see its tokens in mid-text: one merges with it perhaps, hardly all.
_CONTEXTS = ("a", ".", "\n", " ")


@dataclass(frozen=True)
class Marked:
    """A rendered conversation, its special tokens written as markers; `starts` are where they begin, in characters."""

    text: str
    starts: tuple[int, ...]


class SpecialTokens:
    """The copy of a tokenizer that knows its special tokens by markers.

    Args:
        tokenizer_json: the fast tokenizer's own JSON.
        names: special tokens that the JSON does not flag as such (`eos_token` and its like).

    Raises:
        ValueError: the copy would give a token another id.
    """

    def __init__(self, tokenizer_json: str, names: Iterable[str]) -> None:
        document = json.loads(tokenizer_json)
        ids = _special_ids(document, set(names))
        self._markers = _unused_names(ids)
        self._typed = _unused_names(ids)
        self._by_id = {number: token for token, number in ids.items()}
        self._names = {marker: token for token, marker in self._markers.items()}
        self._back = {placeholder: token for token, placeholder in self._typed.items()}
        self._token_pattern = _any_of(self._markers)
        self._marker_pattern = _any_of(self._markers.values())
        self._placeholder_pattern = _any_of(self._back)
        renamed = _renamed(document, self._markers)
        self._copy = Tokenizer.from_str(json.dumps(renamed, ensure_ascii=False))
        for token, expected in ids.items():
            if self._copy.token_to_id(self._markers[token]) != expected:
                raise ValueError(f"the special token {token!r} can't be told from text")
        unknown = _unknown_token(document["model"])
        # The unknown token also stands for characters the vocabulary lacks, so it says nothing about the template.
        self.ids = frozenset(number for token, number in ids.items() if token != unknown)
        self.tokens = tuple(ids)
        self._is_special = np.zeros(1 + max(self._copy.get_vocab_size(), *self.ids, 0), dtype=np.bool_)
        self._is_special[list(self.ids)] = True
        self._unknown_marker = self._markers.get(unknown)
        # What a vocabulary gives for what it lacks is a special token or an ordinary one.
        self._unknown_shown = self._unknown_marker or (unknown if unknown in document["model"]["vocab"] else None)
        seams = seams_of(renamed)
        self._words = Words(seams, list(self._markers.values()), self._encode_whole) if seams else None

    def hide(self, content: str) -> str:
        """What a person typed, special tokens replaced by placeholders for the time it passes through the template."""
        return self._token_pattern.sub(lambda match: self._typed[match.group()], content)

    def mark(self, rendered: str) -> Marked:
        """The rendering of hidden contents: the template's special tokens as markers, the typed ones as text again."""
        text = self._token_pattern.sub(lambda match: self._markers[match.group()], rendered)
        text = self._placeholder_pattern.sub(lambda match: self._back[match.group()], text)
        return self.found_in(text)

    def encode(self, text: str) -> list[int]:
        """Ids of marked text; nothing is added, nothing is cut."""
        return list(self._copy.encode(text, add_special_tokens=False).ids)

    @property
    def in_words(self) -> bool:
        """Whether `encode_all` goes word by word."""
        return self._words is not None

    def places_in(self, ids: Ids) -> list[list[int]]:
        """Of each text, where its special tokens are."""
        return ids.places_of(self._is_special)

    def encode_all(self, texts: list[str]) -> Ids:
        """`encode` of each, without holding the interpreter for most of the time."""
        # A word is told from the first of a text by a NUL character, which no conversation may hold but a template might.
        if self._words and not any("\0" in text for text in texts):
            return self._words.encode_all(texts)
        return Ids.of(self._encode_whole(texts))

    def _encode_whole(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._copy.encode_batch_fast(texts, add_special_tokens=False)]

    def read_back(self, text: str, ids: Sequence[int]) -> ReadBack:
        """How much of marked text comes back from its ids; special tokens, which always do, left out."""
        without = self._marker_pattern.sub(" ", text)
        normalizer = self._copy.normalizer
        normalized = normalizer.normalize_str(without) if normalizer else without
        decoded = self._marker_pattern.sub(self._kept_unknown, self._copy.decode(list(ids), skip_special_tokens=False))
        return compared(without, decoded, normalized, self._unknown_shown)

    def _kept_unknown(self, match: re.Match[str]) -> str:
        return match.group() if match.group() == self._unknown_shown else " "

    def encode_after(self, text: str) -> list[int] | None:
        """Ids of marked text as it stands behind other text, cut from it; None where every other text merges with it."""
        for context in _CONTEXTS:
            before = self.encode(context)
            whole = self.encode(context + text)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return None

    def found_in(self, text: str) -> Marked:
        """Marked text with the places of its markers."""
        found = self._marker_pattern.finditer(text)
        return Marked(text, tuple(match.start() for match in found if match.group() != self._unknown_marker))

    def unmarked(self, text: str) -> str:
        """Marked text with special tokens under their own names."""
        return self._marker_pattern.sub(lambda match: self._names[match.group()], text)

    def marked_name(self, token: str) -> str:
        """What `token` is in marked text: its marker where it is a special token."""
        return self._markers.get(token, token)

    def tokens_of(self, ids: Iterable[int]) -> frozenset[str]:
        """The special tokens with these ids."""
        return frozenset(self._by_id[number] for number in ids if number in self._by_id)

    def name_at(self, text: str, start: int) -> str:
        """The special token whose marker begins at `start`."""
        return self._names[text[start : self.after(text, start)]]

    def after(self, text: str, start: int) -> int:
        """Where the marker that begins at `start` ends."""
        match = self._marker_pattern.match(text, start)
        assert match is not None, "starts come from mark()"
        return match.end()


def _unused_names(tokens: Iterable[str]) -> dict[str, str]:
    """A name for each token that no text can hold.

    Random, so that nobody can type one; private-use characters only, so that neither a template's filters nor a normalizer
    changes them. None begins inside another.
    """
    private = range(0xF0000, 0xFFFFE)
    nonce = "".join(chr(private[secrets.randbelow(len(private))]) for _ in range(6))
    return {token: f"\ue000{nonce}{chr(private[number])}\ue001" for number, token in enumerate(tokens)}


def _special_ids(document: dict[str, Any], names: set[str]) -> dict[str, int]:
    added = document.get("added_tokens") or []
    return {token["content"]: token["id"] for token in added if token["special"] or token["content"] in names}


def _unknown_token(model: dict[str, Any]) -> str:
    if model.get("unk_id") is not None:
        return str(model["vocab"][model["unk_id"]][0])
    return str(model.get("unk_token"))


def _any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """The first of `strings` to begin, and of those the longest: as the tokenizer itself looks for added tokens."""
    alternatives = sorted(strings, key=lambda string: (-len(string), string))
    return re.compile("|".join(map(re.escape, alternatives)) or r"(?!)")


def _renamed(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The tokenizer's JSON with tokens renamed; it neither adds, pads nor cuts."""
    model = document["model"]
    renamed = dict(model, vocab=_renamed_vocabulary(model["vocab"], names))
    if model.get("unk_token") in names:
        renamed["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        renamed["merges"] = [merge for merge in model["merges"] if not names.keys() & _pieces(merge)]
    added = [dict(token, content=names.get(token["content"], token["content"])) for token in document.get("added_tokens") or []]
    return dict(document, model=renamed, added_tokens=added, post_processor=None, truncation=None, padding=None)


def _renamed_vocabulary(vocabulary: Any, names: dict[str, str]) -> Any:
    if isinstance(vocabulary, dict):
        return {names.get(token, token): number for token, number in vocabulary.items()}
    return [[names.get(token, token), score] for token, score in vocabulary]


def _pieces(merge: Any) -> set[str]:
    """The tokens a merge rule is about: both parts and what they become."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return {left, right, left + right}
