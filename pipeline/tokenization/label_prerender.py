"""The draft of every conversation of certain roles, found once: what `drafts` would find for each, where that is certain.

`drafts` renders each beginning of a conversation and looks for the answers in it. Where the skeletons of all those renderings are
known, and it is plain from their literals alone what it would find whatever is said, the whole rendering with the contents in
place is all that is left to do. Anything less certain has no outline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.tokenization.label_spans import Draft, Turn
from pipeline.tokenization.special_tokens import SpecialTokens
from pipeline.tokenization.template_prerender import Skeleton
from pipeline.tokenization.template_trace import Piece

Find = Callable[[tuple[str, ...], bool], Skeleton | None]
"""Roles and whether an answer follows, to the skeleton of the rendering."""


@dataclass(frozen=True)
class Outline:
    """What all drafts of certain roles share.

    Attributes:
        skeletons: those that ask something of the contents; of every rendering `drafts` would make.
        pieces: literals in marked text, and numbers of messages.
    """

    skeletons: tuple[Skeleton, ...]
    pieces: tuple[Piece, ...]
    specials: int
    turns: tuple[Turn, ...]

    def draft(self, contents: Sequence[str], hide: Callable[[str], str]) -> Draft | None:
        """The draft, or None where a condition does not hold. `hide` is what is done to contents before a template sees them."""
        if self.skeletons:
            hidden = [hide(content) for content in contents]
            if not all(skeleton.holds(hidden) for skeleton in self.skeletons):
                return None
        text = "".join([piece if isinstance(piece, str) else contents[piece] for piece in self.pieces])
        return Draft(text, self.specials, self.turns)


def outline(roles: tuple[str, ...], find: Find, special: SpecialTokens) -> Outline | None:
    """The outline for `roles`, or None where a draft has to be looked for in each conversation."""
    answers = [number for number, role in enumerate(roles) if role == "assistant"]
    whole = find(roles, False)
    openings = [find(roles[:answer], True) for answer in answers]
    ends = [find(roles[: answer + 1], False) for answer in answers]
    known = [each for each in (whole, *openings, *ends) if each is not None]
    if whole is None or len(known) < 1 + 2 * len(answers):
        return None
    if not _all_there(whole, roles) or not all(_safe(each.pieces, special.tokens) for each in known):
        return None
    marked = _marked(whole, special)
    turns = []
    for answer, opening, end in zip(answers, known[1 : 1 + len(answers)], known[1 + len(answers) :], strict=True):
        before, after = _marked(opening, special), _marked(end, special)
        turn = _turn(answer, before, after, special)
        if turn is None or not _continues(before, after) or not _continues(after, marked):
            return None
        turns.append(turn)
    asking = tuple(each for each in known if each.conditions or each.clock)
    return Outline(asking, marked, len(_specials(marked, special)), tuple(turns))


def _all_there(whole: Skeleton, roles: Sequence[str]) -> bool:
    return all(number in whole.pieces for number in range(len(roles)))


def _marked(skeleton: Skeleton, special: SpecialTokens) -> tuple[Piece, ...]:
    return tuple(special.mark(piece).text if isinstance(piece, str) else piece for piece in skeleton.pieces)


def _continues(start: tuple[Piece, ...], whole: tuple[Piece, ...]) -> bool:
    """Whether one rendering begins with the other, whatever the contents."""
    *same, last = start
    if tuple(same) != whole[: len(same)] or len(whole) <= len(same):
        return False
    following = whole[len(same)]
    return following.startswith(last) if isinstance(last, str) and isinstance(following, str) else following == last


def _turn(answer: int, opening: tuple[Piece, ...], end: tuple[Piece, ...], special: SpecialTokens) -> Turn | None:
    """The answer between the opening and the first special token after it, with nothing but white space further on.

    Only so is it certain that no other stretch holds the same words.
    """
    rest = end[len(opening) :]
    if len(rest) != 2 or rest[0] != answer or not isinstance(rest[1], str) or not _continues(opening, end):
        return None
    header, written = _header(opening, special), str(end[len(opening) - 1])[len(str(opening[-1])) :]
    closing = special.mark(rest[1])
    if header is None or special.mark(written).starts or not closing.starts:
        return None
    if any(stretch.strip() for stretch in _between(closing.text, closing.starts, special)[1:]):
        return None
    before = len(_specials(opening, special))
    return Turn(header, before - 1, before)


def _header(opening: tuple[Piece, ...], special: SpecialTokens) -> str | None:
    """What `Turn.header` says, where that is the template's words only."""
    last = opening[-1]
    starts = special.mark(last).starts if isinstance(last, str) else ()
    if not isinstance(last, str) or not (starts or len(opening) == 1):
        return None
    return last[starts[-1] :] if starts else last


def _between(text: str, starts: Sequence[int], special: SpecialTokens) -> list[str]:
    """The text before, between and after the special tokens."""
    begins = [0, *(special.after(text, start) for start in starts)]
    return [text[begin:end] for begin, end in zip(begins, [*starts, len(text)], strict=True)]


def _specials(marked: Iterable[Piece], special: SpecialTokens) -> list[int]:
    return [start for piece in marked if isinstance(piece, str) for start in special.mark(piece).starts]


def _safe(pieces: Sequence[Piece], tokens: Iterable[str]) -> bool:
    """Whether no special token can come to stand across the seam between a literal and a content."""
    if any(isinstance(left, int) and isinstance(right, int) for left, right in pairwise(pieces)):
        return False
    halves = [(token[:cut], token[cut:]) for token in tokens for cut in range(1, len(token))]
    before = {piece for piece in pieces[:-1] if isinstance(piece, str)}
    after = {piece for piece in pieces[1:] if isinstance(piece, str)}
    if any(text.endswith(left) or left.endswith(text) for text in before for left, _ in halves):
        return False
    return not any(text.startswith(right) or right.startswith(text) for text in after for _, right in halves)
