"""Where a text can be cut so that its parts, tokenized one by one, give the ids of the whole: proved from a tokenizer's JSON.

The cut is always before white space that follows something else: "one| two". That words are the same words wherever they stand
is true of the tokenizers people use, not of all: what is not shown here to be so is never cut. The cases:

* Byte-level BPE behind a known regular expression (GPT-2's, Llama-3's, Qwen's, …). Text is divided by the expression from left to
  right, and each part is merged by itself. None of the known alternatives takes white space once it has taken anything else, so
  a match always ends at the cut; none looks back, so the rest is divided as if it stood alone; the one that looks ahead does so
  from white space to the next character, which the cut has behind it.
* BPE over the whole text with "▁" for spaces (Llama-2's, Mistral's). Where no token of the vocabulary holds a "▁" after another
  character no merge reaches across the cut, and merges on either side don't know of each other.

Added tokens are looked for before all that: none may reach across a cut, nor swallow the white space at one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Alternatives of the expressions that divide text, each shown to hold to the above. Those of the second group take line ends
# after other characters.
_WORDS = frozenset((
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)",
    r" ?\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}", r" ?\p{N}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+", r"\s*[\r\n]+",
    r"\s+(?!\S)", r"\s+",
))  # fmt: skip
_WORDS_AND_LINE_ENDS = frozenset((r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"))
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # ByteLevel's own
_BLANK = "▁"
_ACROSS = re.compile(r"[^\s▁][\s▁]")
_MARK_ACROSS = re.compile(r"[^\s▁]▁")

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Seams:
    """The cuts of one tokenizer.

    Attributes:
        spaces: the white space that a cut is made before: ASCII characters.
    """

    spaces: bytes

    def find(self, text: _Bytes) -> NDArray[np.int64]:
        """Where UTF-8 text can be cut, in bytes: each the place of white space that something else stands before."""
        before = _table(self.spaces)[text]
        places = np.flatnonzero(before[1:] & _ENDS_A_CHARACTER[text[:-1]]) + 1
        return places[~_ENDS_A_BLANK[text[np.maximum(places - 2, 0)], text[places - 1]]]


def seams_of(document: Mapping[str, Any]) -> Seams | None:
    """The cuts of a fast tokenizer, from its JSON, or None where nothing is certain."""
    model, added = document["model"], document.get("added_tokens") or []
    if model.get("type") != "BPE" or model.get("dropout") or not all(map(_stays_on_its_side, added)):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    steps = _steps(document.get("pre_tokenizer"), "pretokenizers")
    changes = _steps(document.get("normalizer"), "normalizers")
    return _by_expression(steps, changes) or _by_vocabulary(model, steps, changes)


def _stays_on_its_side(token: Mapping[str, Any]) -> bool:
    # A special token is one piece with what follows it, whatever it swallows there: see `words`.
    swallows = token["lstrip"] or token["single_word"] or (token["rstrip"] and not token["special"])
    return not swallows and not _ACROSS.search(token["content"])


def _steps(step: Mapping[str, Any] | None, parts: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return [inner for each in step[parts] for inner in _steps(each, parts)] if step["type"] == "Sequence" else [step]


def _by_expression(steps: list[Mapping[str, Any]], changes: list[Mapping[str, Any]]) -> Seams | None:
    # NFC joins no character with a space, so both sides are composed as the whole is.
    if not steps or any(change["type"] != "NFC" for change in changes):
        return None
    found: set[str] = set()
    for step in steps:
        # Digits are set apart by what they are, not by what stands beside them.
        if step["type"] == "Digits" or (step["type"] == "ByteLevel" and not step["use_regex"]):
            pass
        elif step["type"] == "ByteLevel":
            found |= _alternatives(_GPT2)
        elif step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"] and "Regex" in step["pattern"]:
            found |= _alternatives(step["pattern"]["Regex"])
        else:
            return None
        if step.get("add_prefix_space"):
            return None
    if r"\s+" not in found or not found <= _WORDS | _WORDS_AND_LINE_ENDS:
        return None
    return Seams(b" " if found & _WORDS_AND_LINE_ENDS else b" \t\n\v\f\r")


def _alternatives(expression: str) -> set[str]:
    """Split at each `|` that stands in no group."""
    return set(re.findall(r"(?:\((?:[^()\\]|\\.)*\)|\[(?:[^\]\\]|\\.)*\]|\\.|[^|()\[\\])+", expression))


def _by_vocabulary(model: Mapping[str, Any], steps: list[Mapping[str, Any]], changes: list[Mapping[str, Any]]) -> Seams | None:
    marks = any(_marks_spaces(each) for each in (*steps, *changes))
    others = [each for each in (*steps, *changes) if not _marks_spaces(each) and each["type"] != "Prepend"]
    if any(map(_marks_spaces, changes)):  # then a step that looks for spaces finds none
        others = [each for each in others if not (each["type"] == "Split" and each["pattern"] == {"String": " "})]
    if not marks or others or model.get("ignore_merges") or _BLANK not in model["vocab"]:
        return None
    return None if any(map(_MARK_ACROSS.search, model["vocab"])) else Seams(b" ")


def _marks_spaces(step: Mapping[str, Any]) -> bool:
    """Whether it writes "▁" for each space."""
    if step["type"] == "Metaspace":
        return bool(step["replacement"] == _BLANK)
    return bool(step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == _BLANK)


def _table(members: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[np.frombuffer(members, dtype=np.uint8)] = True
    return table


# What may be the last byte of a character that is no white space: ASCII that is seen, and the last bytes of all longer ones.
_ENDS_A_CHARACTER = _table(bytes([*range(0x21, 0x7F), *range(0x80, 0xC0)]))
# White space beyond ASCII, and "▁".
_BLANKS = [chr(code).encode() for code in (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]
_BLANKS.append(_BLANK.encode())
# By the last two bytes of a character: whether it may be one of these.
_ENDS_A_BLANK = np.zeros((256, 256), dtype=np.bool_)
_ENDS_A_BLANK[[each[-2] for each in _BLANKS], [each[-1] for each in _BLANKS]] = True
