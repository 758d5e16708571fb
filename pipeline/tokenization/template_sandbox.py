"""Chat templates from strangers, run in jinja's sandbox and within bounds of time and size.

The sandbox keeps a template from reaching files and Python; it does not keep it from looping for ever, from a text of a
terabyte or a number of a million digits, nor from doing so while it is compiled, since constants are folded. Here every loop and
macro looks at the clock (of this thread's own computing, so a busy machine changes nothing), and whatever can make something
larger is measured first. What a template can reach is what transformers gives it: its filters and globals are taken over.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_eval_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

# What a template can raise on messages it was not written for, besides its own refusals; the last three by being absurd itself.
TEMPLATE_ERRORS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, SyntaxError, MemoryError,
    AssertionError,
)  # fmt: skip
MOST_SECONDS = 5.0
# The longest template in use has some 20,000 characters.
_MOST_SOURCE = 1 << 20
# Characters of one text, and of all texts a rendering makes; a row has at most four million.
_MOST_TEXT, _MOST_IN_ALL = 1 << 25, 1 << 27
_MOST_PARTS, _MOST_DEPTH = 50_000, 100
_MOST_NUMBER = 100_000  # a width, a count
_MOST_BITS = 4096
_WIDTH = re.compile(r"\d+")


class OutOfBounds(TemplateError):
    """The template took too long or made something too large."""


class _Bounds(threading.local):
    """What is left to the rendering that goes on in this thread."""

    until = float("inf")  # seconds this thread has computed
    not_before = float("inf")  # on the clock on the wall, which is cheap to ask: computing can't be faster
    left = _MOST_IN_ALL


def weigh(value: Any) -> int:
    """Characters in `value` and everything inside it, shared parts counted each time they stand there, as writing it out would.

    Raises `OutOfBounds` when it has too many parts or is nested too deeply.
    """
    if isinstance(value, str):
        return str.__len__(value)
    total, parts, waiting = 0, 0, [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        parts += 1
        if parts > _MOST_PARTS or depth > _MOST_DEPTH:
            raise OutOfBounds("it builds a list or an object without end")
        if isinstance(item, str):
            total += str.__len__(item)
        elif isinstance(item, dict):
            waiting += [(each, depth + 1) for pair in item.items() for each in pair]
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting += [(each, depth + 1) for each in item]
        else:
            total += item.bit_length() // 3 if isinstance(item, int) else 1
    return total + parts


class _Guarded(NodeTransformer):
    """Loops and macros look at the clock, literals and `~` are measured. A template has no name for what is called."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._with_a_look(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._with_a_look(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._with_a_look(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _own_call("joined", list(node.nodes), node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return node if all(isinstance(item, nodes.Const) for item in node.items) else _own_call("built", [node], node.lineno)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        constant = node.ctx != "load" or all(isinstance(item, nodes.Const) for item in node.items)
        return node if constant else _own_call("built", [node], node.lineno)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _own_call("built", [node], node.lineno) if node.items else node

    def _with_a_look(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_own_call("look", [], node.lineno), lineno=node.lineno))
        return node  # type: ignore[no-any-return]


def _own_call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


class _Generation(Extension):
    """`{% generation %}` marks what transformers' own mask would hold; it writes what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as Extension declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _inside(self, _context: nodes.EvalContext, caller: Callable[[], str]) -> str:
        return caller()


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Set up as transformers sets up its own, with the bounds."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))
    generation: type[Extension] = _Generation

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[self.generation, loopcontrols])
        self.bounds = _Bounds()
        self._take_over()
        self.globals.pop("lipsum", None)
        self.filters = {name: self._measured(name, function) for name, function in self.filters.items()}
        self.finalize = self._finalized
        self.concat = self._concatenated  # type: ignore[method-assign]

    def _take_over(self) -> None:
        """What transformers gives its templates: copied from its own environment, as it compiled an empty one."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        theirs = _compile_jinja_template("").environment
        self.filters = dict(theirs.filters)
        self.globals = dict(theirs.globals)
        self.tests = dict(theirs.tests)

    def from_source(self, source: str, *changes: NodeTransformer) -> Template:
        """A template whose every loop, literal and operation is bounded, after `changes` to its syntax tree.

        Raises one of `TEMPLATE_ERRORS`.
        """
        if len(source) > _MOST_SOURCE:
            raise OutOfBounds(f"it is longer than {_MOST_SOURCE >> 20} MiB")
        with self.rendering():
            tree: Any = self.parse(source)
            for change in (*changes, _Guarded()):
                tree = change.visit(tree)
            return self.template_class.from_code(self, self.compile(tree), dict(self.globals))

    @contextmanager
    def rendering(self) -> Iterator[None]:
        """The bounds hold, from their beginning, for what this thread does in the block."""
        bounds = self.bounds
        bounds.until, bounds.left = time.thread_time() + MOST_SECONDS, _MOST_IN_ALL
        bounds.not_before = time.monotonic() + MOST_SECONDS
        try:
            yield
        finally:
            bounds.until = bounds.not_before = float("inf")

    # ------------------------------------------------------------------------------- called by guarded templates

    def look(self) -> None:
        bounds = self.bounds
        if time.monotonic() > bounds.not_before:
            left = bounds.until - time.thread_time()
            if left < 0:
                raise OutOfBounds(f"it is not done after {MOST_SECONDS:g} seconds of computing")
            bounds.not_before = time.monotonic() + left

    def joined(self, *parts: Any) -> str:
        return self.join_parts([self._as_text(part) for part in parts])

    def built(self, value: Any) -> Any:
        self._spend(weigh(value))
        return value

    def join_parts(self, parts: list[str]) -> str:
        """One text of measured parts."""
        self._spend(sum(map(weigh, parts)))
        return "".join(parts)

    def _concatenated(self, parts: Iterable[str]) -> str:
        kept, size = [], 0
        for part in parts:
            kept.append(part)
            size += weigh(part) + 1
            self._fits(size)
        return self.join_parts(kept)

    def _finalized(self, value: Any) -> Any:
        if not isinstance(value, str):
            self._fits(weigh(value))
        return value

    def _as_text(self, value: Any) -> str:
        return value if isinstance(value, str) else str(self._finalized(value))

    # ----------------------------------------------------------------------------------------- what makes things grow

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self._fits(_SIZE_OF[operator](left, right))
        return self.built(super().call_binop(context, operator, left, right))

    def call(self, context: Any, called: Any, /, *arguments: Any, **named: Any) -> Any:
        if getattr(called, "__self__", None) is self:  # what the guarded template calls by itself
            return called(*arguments)
        self.look()
        function = getattr(called, "__wrapped__", called)
        text = getattr(function, "__self__", None)
        if isinstance(text, (str, bytes, int, list, tuple, dict)):
            # An iterator has no size before it has been gone through.
            arguments = tuple(list(self._watched(each)) if isinstance(each, Iterator) else each for each in arguments)
            self._check(getattr(function, "__name__", ""), (text, *arguments), named)
        result = super().call(context, called, *arguments, **named)
        return self._passed_on(result)

    def _measured(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def measured(*arguments: Any, **named: Any) -> Any:
            self.look()
            own = 1 if hasattr(function, "jinja_pass_arg") else 0
            data = arguments[own:]
            if name in _GATHERING and data and not isinstance(data[0], (str, list, tuple, dict)):
                data = (list(self._passed_on(iter(data[0]))), *data[1:])
            self._check(name, data, named)
            return self._passed_on(function(*arguments[:own], *data, **named))

        return measured

    def _check(self, name: str, data: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Numbers and growth of a method of a text (its text is the first of `data`) or of a filter."""
        given = [*data[1:], *(value for key, value in named.items() if not key.startswith("_"))]
        if any(isinstance(value, int) and abs(value) > _MOST_NUMBER for value in given):
            raise OutOfBounds(f"a number above {_MOST_NUMBER:,} is given to {name}")
        if name in _GROWTH and data:
            self._fits(_GROWTH[name](data[0], given))

    def _passed_on(self, result: Any) -> Any:
        if isinstance(result, Iterator):
            return self._watched(result)
        if isinstance(result, (str, list, tuple, dict, int)):
            self._spend(weigh(result))
        return result

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.look()
            self._spend(weigh(item) if isinstance(item, (str, list, tuple, dict)) else 1)
            yield item

    def _spend(self, size: int) -> None:
        self._fits(size)
        self.bounds.left -= size
        if self.bounds.left < 0:
            raise OutOfBounds(f"it makes more than {_MOST_IN_ALL >> 20} million characters")

    def _fits(self, size: int) -> None:
        if size > _MOST_TEXT:
            raise OutOfBounds(f"it makes a text of more than {_MOST_TEXT >> 20} million characters")


# ---------------------------------------------------------------------------------------- the size of what is not made yet

_GATHERING = frozenset(("join", "list", "sort", "unique", "sum", "dictsort", "groupby", "batch", "slice", "tojson", "pprint"))


def _times(left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return _number(left.bit_length() + right.bit_length())
    count, value = (left, right) if isinstance(left, int) else (right, left)
    return max(0, count) * weigh(value) if isinstance(count, int) and isinstance(value, (str, bytes, list, tuple)) else 0


def _power(left: Any, right: Any) -> int:
    return _number(left.bit_length() * abs(right)) if isinstance(left, int) and isinstance(right, int) else 0


def _number(bits: int) -> int:
    if bits > _MOST_BITS:
        raise OutOfBounds("it computes a number without end")
    return 0


def _plus(left: Any, right: Any) -> int:
    sized = (str, list, tuple)
    return weigh(left) + weigh(right) if isinstance(left, sized) and isinstance(right, sized) else 0


def _filled(text: Any, given: Any) -> int:
    """`%`, `format`: each place may take everything that is given, as wide as the widest number or the largest one allowed."""
    if not isinstance(text, str):
        return 0
    widths = [int(width[0]) if len(width[0]) < 10 else _MOST_TEXT for width in _WIDTH.finditer(text)]
    if "*" in text or re.search(r"\{[^}]*\{", text):
        widths.append(_MOST_NUMBER)
    places = str.count(text, "{") + str.count(text, "%")
    return weigh(text) + places * (max(widths, default=0) + weigh(given))


def _replaced(text: Any, given: list[Any]) -> int:
    if len(given) < 2:
        return 0
    text, old, new = (value if isinstance(value, str) else "" for value in (text, *given[:2]))
    return weigh(text) + (str.count(text, old) if weigh(text) else 0) * weigh(new)


def _joined(value: Any, given: list[Any]) -> int:
    """`', '.join(list)` and `list|join(', ')`."""
    items, between = (given[0] if given else "", value) if isinstance(value, str) and given else (value, given)
    count = len(items) if isinstance(items, (list, tuple, dict)) else weigh(items)
    return weigh(items) + count * weigh(between)


def _lines_longer(text: Any, given: list[Any]) -> int:
    width = max((value if isinstance(value, int) else weigh(value) for value in given), default=4)
    return weigh(text) + (str.count(text, "\n") + 1 if isinstance(text, str) else 1) * width


def _written(value: Any, given: list[Any]) -> int:
    """JSON: an escape has six characters, and each part stands on a line of its own, indented by its depth."""
    if any(isinstance(number, int) and number > 16 for number in given):
        raise OutOfBounds("it indents JSON by more than 16")
    return 6 * weigh(value)


_SIZE_OF: dict[str, Callable[[Any, Any], int]] = {"*": _times, "**": _power, "%": _filled, "+": _plus}
_GROWTH: dict[str, Callable[[Any, list[Any]], int]] = {
    "replace": _replaced,
    "join": _joined,
    "format": _filled,
    "format_map": _filled,
    "indent": _lines_longer,
    "expandtabs": lambda text, given: weigh(text) + str.count(text, "\t") * max([8, *filter(_is_int, given)]),
    "translate": lambda text, given: weigh(text) * (1 + weigh(given)),
    "wordwrap": lambda text, given: weigh(text) * (2 + weigh(given)),
    "tojson": _written,
    "xmlattr": lambda value, _given: 6 * weigh(value),
}


def _is_int(value: Any) -> bool:
    return isinstance(value, int)
