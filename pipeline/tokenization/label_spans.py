"""What is trained in a rendered conversation, worked out on its text before it is tokenized, and the labels once it is.

Both halves are plain functions of what they are given, so that rows can be rendered, tokenized together and labelled in batches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import NOT_TRAINED
from pipeline.tokenization.special_tokens import Marked, SpecialTokens

_CLOSED_THOUGHT = re.compile(r"(?P<open><think>)(?P<inner>\s*)(?P<close></think>)(?P<space>\s*)\Z")
_OPEN_THOUGHT = re.compile(r"<(?P<name>[^<>/\s]+)>(?P<space>\s*)\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the assistant says in one turn.

    Attributes:
        pieces: what has to stand in the rendering for the turn to be that answer: of each the ways in which it may be written.
        thought: what was thought before; put where the template opens a thought that it leaves out of what it renders.
        calls: whether it calls tools: then its turn ends where its rendering does, whatever the form of a call is.
        weight: in the loss; 0 is seen and not trained.
        says: whether it says something, besides calls that it may make: its first piece.
    """

    pieces: tuple[tuple[str, ...], ...]
    thought: str = ""
    calls: bool = False
    weight: float = 1.0
    says: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer in a rendering.

    Attributes:
        header: what stands before what is trained, from the last special token on, or all of it where there is none.
        before: which special token that is, counted from the start of the rendering; -1 for none.
        terminator: which special token is the last that is trained.
        is_last_said: whether nothing but white space stands between what the answer says and the end of the rendering.
        weight: see `Answer`.
    """

    header: str
    before: int
    terminator: int
    is_last_said: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A rendering, in marked text, with the number of its special tokens and its answers.

    Attributes:
        not_shown: names of what the conversation says and the rendering does not.
        whole: all of it is trained but its first token, which nothing stands before.
    """

    text: str
    specials: int
    turns: tuple[Turn, ...]
    not_shown: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The text of a draft in tokens: int32 ids, and where among them its special tokens are."""

    ids: NDArray[np.int32]
    places: list[int]


@dataclass(frozen=True, slots=True)
class Document:
    """One document to train on, as `Encoded` but for many of them: `ids` and `labels` are int32 arrays.

    Attributes:
        weights: of the spans in the loss, in turn.
    """

    ids: NDArray[np.int32]
    spans: tuple[tuple[int, int], ...]
    weights: tuple[float, ...] = ()

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
        weights: of the spans in the loss, in turn.
    """

    ids: list[int]
    spans: tuple[tuple[int, int], ...]
    weights: tuple[float, ...] = ()

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


@dataclass(frozen=True, slots=True)
class Endings:
    """What is known of the ends of answers.

    Attributes:
        stops: special tokens that a model's files name as the end of an answer.
        close_thought: where the template opens a thought that it leaves out of what it renders: what ends the thought.
    """

    stops: frozenset[str] = frozenset()
    close_thought: bool = False


def drafts(
    special: SpecialTokens,
    whole: Marked,
    openings: Sequence[Marked],
    ends: Sequence[Marked],
    answers: Sequence[Answer],
    endings: Endings = Endings(),
) -> list[Draft]:
    """One draft; one an answer when the template writes earlier turns differently once later ones follow.

    Answers of no weight are in them and have no turn.

    Args:
        whole: the whole conversation.
        openings: of each answer, what the model is given to answer.
        ends: of each answer, the conversation up to it.

    Raises:
        BadInput: it can't be masked exactly; the message is fit for a report.
    """
    if all(_continues(opening, end) and _continues(end, whole) for opening, end in zip(openings, ends, strict=True)):
        turns = [_turn(special, *each, endings) for each in zip(openings, ends, answers, strict=True)]
        return [_draft(whole, [turn for turn in turns if turn.weight])]
    found = []
    for opening, end, answer in zip(openings, ends, answers, strict=True):
        if answer.weight:
            document = answered(special, opening, end, answer, endings)
            found.append(_draft(document, [_turn(special, opening, document, answer, endings)]))
    return found


def _draft(rendered: Marked, turns: Sequence[Turn]) -> Draft:
    return Draft(rendered.text, len(rendered.starts), tuple(turns))


def weighted(some: Sequence[Draft], weights: Sequence[float]) -> list[Draft]:
    """Drafts of which all answers weigh one, as they are with other weights: `drafts` finds the same.

    Args:
        weights: of the answers, in turn.
    """
    if all(weight == 1 for weight in weights):
        return list(some)
    remaining = iter(weights)
    found = [replace(draft, turns=tuple(replace(turn, weight=next(remaining)) for turn in draft.turns)) for draft in some]
    kept = [replace(draft, turns=tuple(turn for turn in draft.turns if turn.weight)) for draft in found]
    return [draft for draft in kept if draft.turns]


def answered(special: SpecialTokens, opening: Marked, end: Marked, answer: Answer, endings: Endings) -> Marked:
    """What the model is given and what it is to answer, in one: `end` where the template goes on from the opening.

    A template that opens a thought for the model, or an empty one already closed, and writes an answer without one, goes on
    otherwise. What stands in inference is then the opening, the thought where it is open (an empty one where nothing was thought)
    and its end, and the answer.
    """
    if _continues(opening, end):
        return end
    opened = _OPEN_THOUGHT.search(special.unmarked(opening.text))
    if opened:
        tag, space = special.marked_name(f"<{opened['name']}>"), opened["space"]
        before = opening.text[: len(opening.text) - len(tag) - len(space)]
        if end.text.startswith(before):
            rest = end.text[len(before) :]
            if rest.startswith(tag) and not (answer.pieces and rest.startswith(answer.pieces[0])):
                return special.found_in(opening.text + rest[len(tag) :].removeprefix(space))
            if endings.close_thought and opened["name"] == "think":
                close = ("\n" if "\n" in space else "") + special.marked_name("</think>")
                return special.found_in(f"{opening.text}{answer.thought}{close}\n\n{rest}")
    closed = _CLOSED_THOUGHT.search(special.unmarked(opening.text))
    if closed and not answer.thought:
        before = opening.text[: -len(_marked(special, closed))]
        if end.text.startswith(before) and (rest := end.text[len(before) :]).startswith(answer.pieces[0]):
            return special.found_in(opening.text + rest)
    if (behind := _behind_the_same(special, opening, end)) is not None:
        return special.found_in(opening.text + behind)
    if answer.thought:
        raise BadInput("the chat template leaves no room for a thought where an answer begins (data.thinking on)")
    raise BadInput("the chat template rewrites a turn once it is answered")


def _behind_the_same(special: SpecialTokens, opening: Marked, end: Marked) -> str | None:
    """What `end` has behind the place where `opening` ends, where both come to it by the same special tokens.

    The words between them may differ: a template may show a system message only as long as the question has no answer.
    """
    count = len(opening.starts)
    if not count or len(end.starts) <= count:
        return None
    names = [[special.name_at(each.text, start) for start in each.starts[:count]] for each in (opening, end)]
    if names[0] != names[1]:
        return None
    before = opening.text[special.after(opening.text, opening.starts[-1]) :]
    behind = end.text[special.after(end.text, end.starts[count - 1]) :]
    return behind.removeprefix(before) if behind.startswith(before) else None


def _marked(special: SpecialTokens, thought: re.Match[str]) -> str:
    """A closed thought as it stands in marked text."""
    return special.marked_name(thought["open"]) + thought["inner"] + special.marked_name(thought["close"]) + thought["space"]


def _turn(special: SpecialTokens, opening: Marked, end: Marked, answer: Answer, endings: Endings) -> Turn:
    """Where a turn begins (the opening) and which special token of `end` ends it."""
    first = len(opening.starts)
    begins = [len(opening.text)] + [special.after(end.text, start) for start in end.starts[first:]]
    stops = [*end.starts[first:], len(end.text)]
    stretches = [end.text[begin:stop] for begin, stop in zip(begins, stops, strict=True)]
    last = _last_said(stretches, answer)
    if last == len(stretches) - 1:
        raise BadInput("the chat template ends the assistant's turn with no special token, so nothing teaches it to stop")
    header = opening.text[opening.starts[-1] :] if opening.starts else opening.text
    if answer.calls:
        terminator = len(end.starts) - 1
        if stretches[-1].strip() or (endings.stops and special.name_at(end.text, end.starts[-1]) not in endings.stops):
            raise BadInput(
                "the chat template ends a tool call with no token that the model stops at, so nothing teaches it to stop"
            )
    else:
        terminator = first + _end_of_turn(special, end, first, stretches, last, endings)
    is_last_said = not any(stretch.strip() for stretch in stretches[last + 1 :])
    return Turn(header, first - 1, terminator, is_last_said, answer.weight)


def _last_said(stretches: Sequence[str], answer: Answer) -> int:
    """Which of the stretches holds the last of the pieces. Raises `BadInput` where one is nowhere."""
    places = [_last_with(stretches, piece) for piece in answer.pieces]
    if answer.says and answer.calls and places[0] is None and None not in places[1:]:
        raise BadInput("the chat template leaves out what the assistant says beside a tool call")
    if None in places:
        raise BadInput("the chat template changes what the assistant says")
    return max((place for place in places if place is not None), default=0)


def _last_with(stretches: Sequence[str], piece: Sequence[str]) -> int | None:
    for number in reversed(range(len(stretches))):
        if any(is_said_in(stretches[number], way) for way in piece):
            return number
    return None


def _end_of_turn(special: SpecialTokens, end: Marked, first: int, stretches: Sequence[str], last: int, endings: Endings) -> int:
    """The special token behind stretch `last`, or one further on that belongs to the end.

    What stands directly behind it does: the model is to write both. So does, behind white space, the first one that a model's
    files name as the end of an answer where none before it is.
    """
    direct = last
    while direct + 2 < len(stretches) and not stretches[direct + 1]:
        direct += 1
    for further in range(last, len(stretches) - 1):
        if further > last and stretches[further].strip():
            break
        if special.name_at(end.text, end.starts[first + further]) in endings.stops:
            return max(direct, further)
    return direct


def labelled(draft: Draft, tokens: Tokenized, special: SpecialTokens, encode: Callable[[str], list[int]]) -> list[Document]:
    """The draft in the tokens of its text: one document, or one a turn where tokens of an answer merge with what is before it.

    What a model is given ends where the answer begins, so there the tokens are cut, whatever they would be in one text. Earlier
    turns stand in a prompt as one text again, so a document has one such cut, at the only turn it trains.

    Args:
        encode: marked text to ids, for the headers.

    Raises:
        BadInput: tokens reach across a seam between what is trained and what is not.
    """
    if draft.whole:
        if len(tokens.ids) < 2:
            raise BadInput("the text is a single token, which nothing stands before")
        return [Document(tokens.ids, ((1, len(tokens.ids)),), (1.0,))]
    # Special ids come from markers only, so the n-th special id is the n-th marker.
    places = tokens.places
    if len(places) != draft.specials:
        raise BadInput("the tokenizer joins a special token of the chat template with the text around it")
    headers = [encode(turn.header) for turn in draft.turns]
    begins = [_begin(tokens, turn, header) for turn, header in zip(draft.turns, headers, strict=True)]
    ends = [places[turn.terminator] + 1 for turn in draft.turns]
    if None not in begins:
        spans = tuple(zip(begins, ends, strict=True))
        return [Document(tokens.ids, spans, tuple(turn.weight for turn in draft.turns))]  # type: ignore[arg-type]
    found = []
    for turn, header, begin, end in zip(draft.turns, headers, begins, ends, strict=True):
        if begin is not None:
            found.append(Document(tokens.ids[:end], ((begin, end),), (turn.weight,)))
        else:
            found.append(_cut(draft, turn, header, tokens, special))
    return found


def _begin(tokens: Tokenized, turn: Turn, header: list[int]) -> int | None:
    """The first token after the opening, or None where the opening's own tokens are not those of the prompt.

    Text is tokenized from one special token to the next, so only the part after the last needs another look.
    """
    before = tokens.places[turn.before] if turn.before >= 0 else 0
    begin = before + len(header)
    return None if begin == 0 or tokens.ids[before:begin].tolist() != header else begin


def _cut(draft: Draft, turn: Turn, header: list[int], tokens: Tokenized, special: SpecialTokens) -> Document:
    """The document up to the turn's end, its tokens cut where the turn begins."""
    if not header:
        raise BadInput("nothing stands before an answer, so there is nothing that it is predicted from")
    starts = special.found_in(draft.text).starts
    before = tokens.places[turn.before] if turn.before >= 0 else 0
    begin = (starts[turn.before] if turn.before >= 0 else 0) + len(turn.header)
    after = special.encode_after(draft.text[begin : starts[turn.before + 1]])
    if after is None:
        raise BadInput("the first characters of an answer merge with the chat template's words before it")
    rest = tokens.ids[tokens.places[turn.before + 1] : tokens.places[turn.terminator] + 1]
    ids = np.concatenate([tokens.ids[:before], np.array([*header, *after], dtype=np.int32), rest])
    return Document(ids, ((before + len(header), len(ids)),), (turn.weight,))


def _continues(start: Marked, whole: Marked) -> bool:
    return whole.text.startswith(start.text)


def is_said_in(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, white space aside, which templates trim and add."""
    return words in text or _bare(words) in _bare(text)


def _bare(text: str) -> str:
    return "".join(text.split())
