"""A vocabulary as llama.cpp reads it: pieces with their kinds, merges or scores, and the name of what cuts a text into words.

llama.cpp has no `tokenizer.json`: it has one program for each way of cutting, which the file names. The name is found by the
pattern that stands in the tokenizer; a pattern that llama.cpp has no program for is refused, since another makes other tokens.
Source of the patterns: llama.cpp, `llm_tokenizer_bpe` in src/llama-vocab.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput

_SPACE = "▁"


class PieceKind(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: `gpt2` for merges over bytes, `llama` for scored pieces with bytes as a fallback.
        cutting: `tokenizer.ggml.pre`.
        pieces: text of each id.
        kinds: of each id.
        merges: `left right`, the first the most urgent; of `gpt2`.
        scores: of each id, the highest merged first; of `llama`.
        space_in_front: whether a text is read with a space before it.
    """

    model: str
    cutting: str
    pieces: tuple[str, ...]
    kinds: tuple[PieceKind, ...]
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    space_in_front: bool = False


class _Unknown(ValueError):
    pass


def gguf_vocabulary(document: Mapping[str, Any], rows: int, name: str) -> Vocabulary:
    """The vocabulary of a tokenizer's JSON.

    Args:
        document: `tokenizer.json`.
        rows: of the model's embedding: as many pieces are listed.
        name: what a person calls the model.

    Raises:
        BadInput: llama.cpp has nothing that cuts and joins as this tokenizer does.
    """
    try:
        return _vocabulary(document, rows)
    except (_Unknown, KeyError, TypeError) as error:
        raise BadInput(f"{name}: its tokenizer can't be written as GGUF: {error}", _HINT) from error


_HINT = "take gguf out of export.formats; merged holds the tokenizer as it is"


def vocabulary_refusal(folder: Path) -> str:
    """Why the tokenizer in a folder can't be written, in a sentence, as far as its kind says; empty where it can."""
    try:
        document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        _cutting(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its tokenizer can't be written as GGUF: {error}" if isinstance(error, _Unknown) else ""
    return ""


def _vocabulary(document: Mapping[str, Any], rows: int) -> Vocabulary:
    cutting = _cutting(document)
    pieces, kinds = _pieces(document, rows, scored=cutting is None)
    if cutting is not None:
        return Vocabulary("gpt2", cutting, pieces, kinds, merges=tuple(" ".join(pair) for pair in _merges(document)))
    return Vocabulary(
        "llama", "default", pieces, kinds, scores=_scores(document, pieces, kinds), space_in_front=_space_in_front(document)
    )


def _cutting(document: Mapping[str, Any]) -> str | None:
    """The name of what cuts texts into words; None for a vocabulary of scored pieces, which has no words.

    Raises:
        _Unknown: llama.cpp has none that cuts like this.
    """
    model = document["model"]
    if model.get("type", "BPE") != "BPE":
        raise _Unknown(f"it is of the kind {model.get('type')}, of which llama.cpp reads none that a tokenizer.json describes")
    if model.get("byte_fallback"):
        return None
    normalizer = document.get("normalizer")
    if normalizer and any(each.get("type") != "NFC" for each in _each(normalizer)):
        raise _Unknown("it rewrites a text before it cuts it, and llama.cpp does not")
    steps = tuple(_step(each) for each in _each(document.get("pre_tokenizer") or {}))
    name = _CUTTINGS.get(steps)
    if name is None:
        raise _Unknown("it cuts texts into words by a pattern that llama.cpp has no program for")
    if name == "dbrx" and model.get("ignore_merges"):
        return "llama-bpe"
    if model.get("ignore_merges") and name not in ("tekken", "gpt-4o"):
        raise _Unknown("it takes whole words before merges, and llama.cpp does not with this pattern")
    return name


def _each(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a sequence of steps, or the one step."""
    if step.get("type") == "Sequence":
        yield from step.get("pretokenizers") or step.get("normalizers") or ()
    elif step:
        yield step


def _step(step: Mapping[str, Any]) -> tuple[str, ...]:
    kind = step["type"]
    if kind == "Split":
        pattern = step["pattern"].get("Regex") or step["pattern"].get("String") or ""
        return ("Split", str(step.get("behavior", "")), pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", _ENDINGS))
    if kind == "ByteLevel":
        return ("ByteLevel", str(bool(step.get("use_regex", True))), str(bool(step.get("add_prefix_space", False))))
    if kind == "Digits":
        return ("Digits", str(bool(step.get("individual_digits"))))
    return (kind,)


# The two ways in which the same is published: without regard to case, and with each case spelt out.
_ENDINGS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BYTES, _BYTES_OF_WORDS = ("ByteLevel", "False", "False"), ("ByteLevel", "True", "False")
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_REST_WITH_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(pattern: str) -> tuple[tuple[str, ...], ...]:
    return (("Split", "Isolated", pattern), _BYTES)


_CUTTINGS: Mapping[tuple[tuple[str, ...], ...], str] = {
    (_BYTES_OF_WORDS,): "gpt-2",
    (("Digits", "True"), _BYTES_OF_WORDS): "smollm",
    # Llama 3's pattern is cl100k's; which of the two it is the merges tell.
    _split(rf"{_ENDINGS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}{_REST}"): "dbrx",
    _split(rf"{_ENDINGS}|{_BEFORE}\p{{L}}+|\p{{N}}{_REST}"): "qwen2",
    _split(
        rf"{_ENDINGS}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ): "qwen35",
    _split(
        rf"{_BEFORE}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_ENDINGS}?|\p{{N}}{{1,3}}{_REST_WITH_SLASH}"
    ): "gpt-4o",
    _split(rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}{_REST_WITH_SLASH}"): "tekken",
}


def _pieces(document: Mapping[str, Any], rows: int, *, scored: bool) -> tuple[tuple[str, ...], tuple[PieceKind, ...]]:
    pieces = [f"[PAD{number}]" for number in range(rows)]
    kinds = [PieceKind.UNUSED] * rows
    unknown = document["model"].get("unk_token")
    for piece, number in document["model"]["vocab"].items():
        if number < rows:
            pieces[number], kinds[number] = piece, PieceKind.NORMAL
            if scored and _is_byte(piece):
                kinds[number] = PieceKind.BYTE
            elif scored and piece == unknown:
                kinds[number] = PieceKind.UNKNOWN
    for token in document.get("added_tokens") or ():
        number, text = token["id"], token["content"]
        if number >= rows:
            continue
        if token.get("special"):
            kinds[number] = PieceKind.UNKNOWN if scored and text == unknown else PieceKind.CONTROL
        elif kinds[number] != PieceKind.BYTE:
            kinds[number] = PieceKind.USER_DEFINED
            text = text.replace(_SPACE, " ") if scored else text
        pieces[number] = text
    return tuple(pieces), tuple(kinds)


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _merges(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs, the most urgent first; older files write them with a space between."""
    found = []
    for merge in document["model"]["merges"]:
        left, right = merge if not isinstance(merge, str) else merge.split(" ", 1)
        found.append((left, right))
    return found


def _scores(document: Mapping[str, Any], pieces: Sequence[str], kinds: Sequence[PieceKind]) -> tuple[float, ...]:
    """Scores by which joining the two neighbours whose piece scores highest is what the merges do.

    Raises:
        _Unknown: the merges are no order of pieces: some of a piece's ways to be joined are missing.
    """
    ranks: dict[str, int] = {}
    pairs = set()
    for left, right in _merges(document):
        pairs.add((left, right))
        ranks.setdefault(left + right, len(ranks))
    vocabulary = document["model"]["vocab"]
    special = {token["content"] for token in document.get("added_tokens") or ()}
    for piece in ranks:
        for middle in range(1, len(piece)):
            pair = (piece[:middle], piece[middle:])
            known = all(part in vocabulary and part not in special and not _is_byte(part) for part in pair)
            if known and pair not in pairs:
                raise _Unknown(f"it joins {piece!r} from some of its parts and not from others; llama.cpp joins it from all")
    scores = []
    for piece, kind in zip(pieces, kinds, strict=True):
        usual = kind == PieceKind.NORMAL
        scores.append(-float(ranks[piece]) if usual and piece in ranks else -float(len(ranks)) if usual else 0.0)
    return tuple(scores)


def _space_in_front(document: Mapping[str, Any]) -> bool:
    """Whether a space stands before each stretch of text. Where only the first has one, a chat begins with a special token."""
    prepends = any(each.get("type") == "Prepend" for each in _each(document.get("normalizer") or {}))
    cuts = [each for each in _each(document.get("pre_tokenizer") or {}) if each.get("type") == "Metaspace"]
    return prepends or any(each.get("prepend_scheme", "always") == "always" for each in cuts)
