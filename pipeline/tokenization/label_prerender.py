"""The draft of every conversation of certain roles, found once: what `drafts` would find for each, where that is certain.

`drafts` renders each beginning of a conversation and looks for the answers in it. Where the skeletons of all those renderings are
known, and it is plain from their literals alone what it would find whatever is said, the whole rendering with the contents in
place is all that is left to do. Anything less certain has no outline.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.common.errors import BadInput
from pipeline.tokenization.label_spans import Answer, Draft, Endings, drafts
from pipeline.tokenization.special_tokens import Marked, SpecialTokens
from pipeline.tokenization.template_prerender import Skeleton
from pipeline.tokenization.template_trace import CLOSES, OPENS, Piece, Trace

Find = Callable[[tuple[str, ...], bool], Skeleton | None]
"""Roles and whether an answer follows, to the skeleton of the rendering."""

Closed = Callable[[Marked, bool], Marked]
"""The rendering of a conversation that an answer ends, and whether it calls a tool, to the same with the token that ends it."""


@dataclass(frozen=True)
class Outline:
    """What all drafts of certain roles share.

    Attributes:
        skeletons: those that ask something of the contents; of every rendering `drafts` would make.
        outlined: of each draft its text, as literals in marked text and numbers of messages, and a draft with another text.
    """

    skeletons: tuple[Skeleton, ...]
    outlined: tuple[tuple[tuple[Piece, ...], Draft], ...]

    def drafts(self, contents: Sequence[str], hide: Callable[[str], str]) -> list[Draft] | None:
        """The drafts, or None where a condition does not hold. `hide` is what is done to contents before a template sees them."""
        if self.skeletons:
            hidden = [hide(content) for content in contents]
            if not all(skeleton.holds(hidden) for skeleton in self.skeletons):
                return None
        return [Draft(_filled(pieces, contents), each.specials, each.turns) for pieces, each in self.outlined]


def _filled(pieces: Sequence[Piece], contents: Sequence[str]) -> str:
    return "".join([piece if isinstance(piece, str) else contents[piece] for piece in pieces])


def outline(roles: tuple[str, ...], find: Find, special: SpecialTokens, endings: Endings, closed: Closed) -> Outline | None:
    """The outline for `roles`, or None where a draft has to be looked for in each conversation.

    What `drafts` finds with a text in the place of each content that is nowhere else, where it would find that with any contents.

    Args:
        closed: adds to the rendering of a conversation that an answer ends the token that ends it, where the template writes it
            before the next turn only.
    """
    answers = [number for number, role in enumerate(roles) if role == "assistant"]
    needed = [(roles, False), *((roles[:at], True) for at in answers), *((roles[: at + 1], False) for at in answers)]
    known = [found for each in needed if (found := find(*each)) is not None and _safe(found.pieces, special.tokens)]
    if len(known) < len(needed):
        return None
    nonce = secrets.token_hex(8)
    stand_ins = [f"{OPENS}{nonce}.{number}{CLOSES}" for number in range(len(roles))]
    whole, *marked = [special.mark(each.filled(stand_ins)) for each in known]
    openings, ends = marked[: len(answers)], [closed(end, False) for end in marked[len(answers) :]]
    if answers[-1] == len(roles) - 1:
        whole = ends[-1]
    try:
        its_drafts = drafts(special, whole, openings, ends, [Answer(((stand_ins[at],),)) for at in answers], endings)
    except (BadInput, ValueError):
        return None
    if not all(stand_in in whole.text for stand_in in stand_ins):
        return None
    trace, outlined = Trace(stand_ins), []
    for draft in its_drafts:
        # Only where an answer is the last that is said is it certain that no other stretch holds the same words.
        sure = all(turn.is_last_said and nonce not in turn.header for turn in draft.turns)
        if not sure or not _safe(trace.pieces(special.unmarked(draft.text)), special.tokens):
            return None
        outlined.append((tuple(trace.pieces(draft.text)), draft))
    asking = tuple(each for each in known if each.conditions or each.clock)
    return Outline(asking, tuple(outlined))


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
