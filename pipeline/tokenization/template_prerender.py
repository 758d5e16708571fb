"""What a chat template writes around the messages, found once for each sequence of roles instead of for each conversation.

A template is run on `Traced` contents. Where that succeeds, its way through depended on nothing but the roles and some
conditions, so for every conversation with these roles whose contents fulfil them the rendering is the same literals with other
contents between: a proof, not a sample. The literals are still compared with what transformers renders before they are used, and
whatever can't be followed is rendered by transformers, conversation by conversation.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from pipeline.common.errors import BadInput
from pipeline.tokenization.template_sandbox import TEMPLATE_ERRORS, BoundedEnvironment, OutOfBounds
from pipeline.tokenization.template_trace import Condition, ContentDependent, Piece, Trace, Traced, pieces_of

# Sequences of roles that are remembered, and messages in one. A file has a few dozen; a hostile one shall not fill the memory.
MOST_SHAPES = 4096
_MOST_MESSAGES = 256
# Filters that pass text on whole, through its own methods, or look at the list of messages only.
_KNOWN_FILTERS = {
    "capitalize", "count", "d", "default", "first", "last", "length", "list", "lower", "rejectattr", "reverse", "selectattr",
    "string", "title", "trim", "upper",
}  # fmt: skip
# The compiler gives them to every call, whatever the template wrote.
_JINJA_PASSES = frozenset(("_loop_vars", "_block_vars"))

Render = Callable[[Sequence[str], Sequence[str], bool], str]
"""Roles, contents and whether an answer follows, to the text as transformers renders it."""


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
        return not self.clock or all(_now(pattern) == then for pattern, then in self.clock)

    def filled(self, contents: Sequence[str]) -> str:
        """The rendering, where the skeleton `holds`."""
        return "".join([piece if isinstance(piece, str) else contents[piece] for piece in self.pieces])


class Skeletons:
    """Those of one template.

    Args:
        template: its source; anything else (a choice of several) has no skeletons.
        variables: what transformers gives every template besides the messages: the special tokens by name.
        render: to compare with.
    """

    def __init__(self, template: Any, variables: dict[str, Any], render: Render) -> None:
        self._variables, self._render = variables, render
        self._found: dict[tuple[tuple[str, ...], bool], Skeleton | None] = {}
        self._template: Template | None = None
        with contextlib.suppress(ContentDependent, *TEMPLATE_ERRORS):
            self._environment = _Tracing()
            self._template = self._environment.from_source(template, _Followed()) if isinstance(template, str) else None

    def find(self, roles: tuple[str, ...], answer: bool) -> Skeleton | None:
        """The skeleton for these roles, or None where there is none."""
        if self._template is None or len(roles) > _MOST_MESSAGES:
            return None
        key = (roles, answer)
        found = self._found.get(key)
        # With a clock in it, it is found anew when the time has moved on.
        outdated = found is not None and not found.in_time()
        if (key not in self._found and len(self._found) < MOST_SHAPES) or outdated:
            found = self._found[key] = self._learn(self._template, roles, answer)
        return found

    def _learn(self, template: Template, roles: tuple[str, ...], answer: bool) -> Skeleton | None:
        nonce = secrets.token_hex(8)
        trace = Trace([f"\ue000{nonce}.{number}\ue001" for number in range(len(roles))])
        messages = [{"role": role, "content": trace.content(number)} for number, role in enumerate(roles)]
        clock: list[tuple[str, str]] = []
        try:
            with self._environment.rendering():
                text = template.render(
                    messages=messages, tools=None, documents=None, add_generation_prompt=answer, strftime_now=_noting(clock),
                    **self._variables,
                )  # fmt: skip
            pieces = pieces_of(text)
            if any(nonce in piece for piece in pieces if isinstance(piece, str)):
                return None
            # The stand-ins fulfil every condition, so plain text has to take the same way.
            if self._render(roles, trace.stand_ins, answer) != str.join("", [text]):
                return None
        except OutOfBounds:
            self._template = None  # not to be tried again with every sequence of roles
            return None
        except (ContentDependent, BadInput, *TEMPLATE_ERRORS):  # whoever renders it for good tells what
            return None
        # The same few literals stand in all of them.
        pieces = tuple(sys.intern(piece) if isinstance(piece, str) else piece for piece in pieces)
        return Skeleton(pieces, tuple(trace.conditions), tuple(clock))


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _noting(clock: list[tuple[str, str]]) -> Callable[[str], str]:
    def strftime_now(pattern: str) -> str:
        clock.append((pattern, _now(pattern)))
        return clock[-1][1]

    return strftime_now


# ----------------------------------------------------------------------------------------- templates that trace


def _concat(parts: Any) -> str:
    parts = list(parts)
    traced = next((part for part in parts if isinstance(part, Traced)), None)
    if traced is None:
        return "".join(parts)
    return traced.trace.joined(piece for part in parts for piece in pieces_of(part))


def _tilde(*parts: Any) -> str:
    return _concat(map(str, parts))


def _contains(item: Any, container: Any) -> bool:
    if isinstance(item, Traced) and isinstance(container, str) and not isinstance(container, Traced):
        raise ContentDependent
    return item in container


def _raise(message: str) -> None:
    raise TemplateError(message)


class _Followed(NodeTransformer):
    """`~` and `in` as calls: compiled as they are, they would take a `Traced` for its plain value."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("_tilde", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not any(operand.op in ("in", "notin") for operand in node.ops):
            return node
        if len(node.ops) > 1:
            raise ContentDependent
        found = _call("_contains", [node.expr, node.ops[0].expr], node.lineno)
        return found if node.ops[0].op == "in" else nodes.Not(found, lineno=node.lineno)


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load", lineno=line), arguments, [], None, None, lineno=line)


class _Inline(Extension):
    """`{% generation %}` as if it were not there: what stands in it stays traced."""

    tags = {"generation"}  # noqa: RUF012 - as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Tracing(BoundedEnvironment):
    """With everything refused that could look into a `Traced` unseen."""

    generation = _Inline

    def __init__(self) -> None:
        super().__init__()
        for name in self.filters.keys() - _KNOWN_FILTERS:
            self.filters[name] = _unknown
        self.tests["in"] = _contains
        self.globals |= {"raise_exception": _raise, "namespace": Namespace, "_tilde": _tilde, "_contains": _contains}

    def join_parts(self, parts: list[str]) -> str:
        self.built(parts)
        return _concat(parts)

    def call(self, context: Any, called: Any, /, *arguments: Any, **named: Any) -> Any:
        own = called in (_tilde, _contains, _raise, Namespace, self.built) or isinstance(called, Macro)
        its_method = isinstance(getattr(called, "__self__", None), Traced)
        given = [*arguments, *(value for name, value in named.items() if name not in _JINJA_PASSES)]
        if not own and not its_method and any(map(_holds_traced, given)):
            raise ContentDependent
        return super().call(context, called, *arguments, **named)


def _unknown(*_: Any, **__: Any) -> Any:
    raise ContentDependent


def _holds_traced(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_traced, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_traced, value))
    return isinstance(value, Traced) or not isinstance(value, (str, int, float, type(None)))
