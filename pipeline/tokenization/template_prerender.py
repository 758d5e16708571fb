"""What a chat template writes around the messages, found once for each sequence of roles instead of for each conversation.

A template is run on `Traced` contents, in the process that runs templates. Where that succeeds, its way through depended on
nothing but the roles and some conditions, so for every conversation with these roles whose contents fulfil them the rendering is
the same literals with other contents between: a proof, not a sample. The literals are still compared with what transformers
renders before they are used, and whatever can't be followed is rendered by transformers, conversation by conversation.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.template_environment import strftime_now
from pipeline.tokenization.template_process import OutOfBounds, Refused
from pipeline.tokenization.template_trace import CLOSES, OPENS, Condition, Piece

# Sequences of roles that are remembered, and messages in one. A file has a few dozen; a hostile one shall not fill the memory.
MOST_SHAPES = 4096
_MOST_MESSAGES = 256
Render = Callable[[Sequence[str], Sequence[str], bool], str]
"""Roles, contents and whether an answer follows, to the text as transformers renders it."""

Trace = Callable[[Sequence[str], Sequence[str], bool], dict[str, Any]]
"""The same to what `template_worker.trace` finds."""


@dataclass(frozen=True)
class Skeleton:
    """The rendering of all conversations of certain roles.

    Attributes:
        pieces: literals, and numbers of messages whose contents stand between them.
        conditions: what the contents must be for it to hold.
        clock: formats of the time that the template wrote, and what they gave.
    """

    pieces: tuple[Piece, ...]
    conditions: tuple[Condition, ...]
    clock: tuple[tuple[str, str], ...]

    def holds(self, contents: Sequence[str]) -> bool:
        """Whether it is the skeleton of a conversation with these contents (of its messages in turn; more may follow)."""
        for condition in self.conditions:
            if not condition.holds(contents[condition.message]):
                return False
        return self.in_time()

    def in_time(self) -> bool:
        """Whether what it says of the time is still so."""
        return not self.clock or all(strftime_now(pattern) == then for pattern, then in self.clock)

    def filled(self, contents: Sequence[str]) -> str:
        """The rendering, where the skeleton `holds`."""
        return "".join([piece if isinstance(piece, str) else contents[piece] for piece in self.pieces])


class Skeletons:
    """Those of one template.

    Args:
        trace: see `template_worker.trace`.
        render: to compare with.
    """

    def __init__(self, trace: Trace, render: Render) -> None:
        self._trace: Trace | None = trace
        self._render = render
        self._found: dict[tuple[tuple[str, ...], bool], Skeleton | None] = {}

    def find(self, roles: tuple[str, ...], answer: bool) -> Skeleton | None:
        """The skeleton for these roles, or None where there is none."""
        if self._trace is None or len(roles) > _MOST_MESSAGES:
            return None
        key = (roles, answer)
        found = self._found.get(key)
        # With a clock in it, it is found anew when the time has moved on.
        outdated = found is not None and not found.in_time()
        if (key not in self._found and len(self._found) < MOST_SHAPES) or outdated:
            found = self._found[key] = self._learn(self._trace, roles, answer)
        return found

    def _learn(self, trace: Trace, roles: tuple[str, ...], answer: bool) -> Skeleton | None:
        nonce = secrets.token_hex(8)
        stand_ins = [f"{OPENS}{nonce}.{number}{CLOSES}" for number in range(len(roles))]
        try:
            traced = trace(roles, stand_ins, answer)
            if not traced or any(nonce in piece for piece in traced["pieces"] if isinstance(piece, str)):
                return None
            found = _skeleton(**traced)
            # The stand-ins fulfil every condition, so plain text has to take the same way.
            return found if self._render(roles, stand_ins, answer) == found.filled(stand_ins) else None
        except OutOfBounds:
            self._trace = None  # not to be tried again with every sequence of roles
        except (Refused, BadInput):  # whoever renders it for good reports why
            pass
        return None


def _skeleton(pieces: Sequence[Piece], conditions: Sequence[Sequence[Any]], clock: Sequence[tuple[str, str]]) -> Skeleton:
    # The same few literals stand in all of them.
    shared = tuple(sys.intern(piece) if isinstance(piece, str) else piece for piece in pieces)
    return Skeleton(shared, tuple(Condition(*each) for each in conditions), tuple((pattern, then) for pattern, then in clock))
