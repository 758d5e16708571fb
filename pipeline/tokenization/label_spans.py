"""What is trained in a rendered conversation, worked out on its text before it is tokenized, and the labels once it is.

Both halves are plain functions of what they are given, so that rows can be rendered, tokenized together and labelled in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import NOT_TRAINED, Message
from pipeline.tokenization.special_tokens import Marked, SpecialTokens


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer in a rendering.

    Attributes:
        header: what stands before the answer's words, from the last special token on, or all of it where there is none.
        before: which special token that is, counted from the start of the rendering; -1 for none.
        terminator: which special token ends the answer.
    """

    header: str
    before: int
    terminator: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A rendering, in marked text, with the number of its special tokens and its answers."""

    text: str
    specials: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The text of a draft in tokens: int32 ids, and where among them its special tokens are."""

    ids: NDArray[np.int32]
    places: list[int]


@dataclass(frozen=True, slots=True)
class Document:
    """One document to train on, as `Encoded` but for many of them: `ids` and `labels` are int32 arrays."""

    ids: NDArray[np.int32]
    spans: tuple[tuple[int, int], ...]

    @property
    def labels(self) -> NDArray[np.int32]:
        labels = np.full(self.ids.size, NOT_TRAINED, dtype=np.int32)
        for begin, end in self.spans:
            labels[begin:end] = self.ids[begin:end]
        return labels

    @property
    def trained(self) -> int:
        return sum(end - begin for begin, end in self.spans)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One document to train on.

    Attributes:
        ids: token ids, the whole rendering.
        spans: trained stretches, in tokens: begin and end (past the terminator).
    """

    ids: list[int]
    spans: tuple[tuple[int, int], ...]

    @property
    def labels(self) -> list[int]:
        """As long as `ids`: the id where it is trained, else -100. The first is never trained."""
        labels = [NOT_TRAINED] * len(self.ids)
        for begin, end in self.spans:
            labels[begin:end] = self.ids[begin:end]
        return labels

    @property
    def trained(self) -> int:
        """Tokens with a label."""
        return sum(end - begin for begin, end in self.spans)


def drafts(
    special: SpecialTokens, whole: Marked, openings: Sequence[Marked], ends: Sequence[Marked], answers: Sequence[str]
) -> list[Draft]:
    """One draft; one an answer when the template writes earlier turns differently once later ones follow.

    Args:
        whole: the whole conversation.
        openings: of each answer, what the model is given to answer.
        ends: of each answer, the conversation up to it.
        answers: what the assistant says.

    Raises:
        BadInput: it can't be masked exactly; the message is fit for a report.
    """
    if all(_continues(opening, end) and _continues(end, whole) for opening, end in zip(openings, ends, strict=True)):
        turns = [_turn(special, *each) for each in zip(openings, ends, answers, strict=True)]
        return [_draft(whole, turns)]
    if not all(map(_continues, openings, ends)):
        raise BadInput("the chat template rewrites a turn once it is answered")
    turns = [_turn(special, *each) for each in zip(openings, ends, answers, strict=True)]
    return [_draft(end, [turn]) for end, turn in zip(ends, turns, strict=True)]


def _draft(rendered: Marked, turns: Sequence[Turn]) -> Draft:
    return Draft(rendered.text, len(rendered.starts), tuple(turns))


def _turn(special: SpecialTokens, opening: Marked, end: Marked, answer: str) -> Turn:
    """Where a turn's words begin (the opening) and which special token of `end` ends them."""
    first = len(opening.starts)
    begins = [len(opening.text)] + [special.after(end.text, start) for start in end.starts[first:]]
    for number in reversed(range(first, len(end.starts))):
        if _said_in(end.text[begins[number - first] : end.starts[number]], answer):
            header = opening.text[opening.starts[-1] :] if opening.starts else opening.text
            return Turn(header, first - 1, number)
    if _said_in(end.text[begins[-1] :], answer):
        raise BadInput("the chat template ends the assistant's turn with no special token, so nothing teaches it to stop")
    raise BadInput("the chat template changes what the assistant says")


def labelled(draft: Draft, tokens: Tokenized, encode: Callable[[str], list[int]]) -> Document:
    """The draft in the tokens of its text.

    Args:
        encode: marked text to ids, for the headers.

    Raises:
        BadInput: tokens reach across a seam between what is trained and what is not.
    """
    # Special ids come from markers only, so the n-th special id is the n-th marker.
    places = tokens.places
    if len(places) != draft.specials:
        raise BadInput("the tokenizer joins a special token of the chat template with the text around it")
    spans = tuple((_begin(tokens, turn, encode(turn.header)), places[turn.terminator] + 1) for turn in draft.turns)
    return Document(tokens.ids, spans)


def _begin(tokens: Tokenized, turn: Turn, header: list[int]) -> int:
    """The first token after the opening, whose own tokens must be those of the prompt.

    Text is tokenized from one special token to the next, so only the part after the last needs another look.
    """
    before = tokens.places[turn.before] if turn.before >= 0 else 0
    begin = before + len(header)
    if begin == 0 or tokens.ids[before:begin].tolist() != header:
        raise BadInput("the first characters of an answer merge with the chat template's words before it")
    return begin


def all_there(messages: Sequence[Message], rendered: Marked) -> None:
    """Raise `BadInput` where a message is missing: some templates leave out what they have no place for."""
    for message in messages:
        if message["role"] != "assistant" and not _said_in(rendered.text, message["content"]):
            raise BadInput(f"the chat template leaves out a message of the {message['role']}")


def _continues(start: Marked, whole: Marked) -> bool:
    return whole.text.startswith(start.text)


def _said_in(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, white space aside, which templates trim and add."""
    return words in text or _bare(words) in _bare(text)


def _bare(text: str) -> str:
    return "".join(text.split())
