"""Chat templates that are run on `Traced` contents, with everything refused that could look into one unseen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.visitor import NodeTransformer

from pipeline.tokenization.template_environment import ChatEnvironment, TemplateNamespace, raise_exception
from pipeline.tokenization.template_trace import ContentDependent, Traced

# Filters that pass text on whole, through its own methods, or look at the list of messages only.
_KNOWN_FILTERS = {
    "capitalize", "count", "d", "default", "first", "last", "length", "list", "lower", "rejectattr", "reverse", "selectattr",
    "string", "title", "trim", "upper",
}  # fmt: skip
# The compiler gives them to every call, whatever the template wrote.
_JINJA_PASSES = frozenset(("_loop_vars", "_block_vars"))


class TracingEnvironment(ChatEnvironment):
    """Whatever a template made by it writes is followed, or `ContentDependent` is raised."""

    intercepted_binops = frozenset(("**", "%"))

    def __init__(self) -> None:
        super().__init__(_Inline)
        for name in self.filters.keys() - _KNOWN_FILTERS:
            self.filters[name] = _unknown
        self.filters["length"] = self.filters["count"] = _length
        self.tests["in"] = _contains
        self.concat = _concat  # type: ignore[method-assign]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Followed().visit(super()._parse(source, name, filename))
        return tree

    def tilde(self, *parts: Any) -> str:
        return _concat(map(str, parts))

    def contains(self, item: Any, container: Any) -> bool:
        return _contains(item, container)

    def call(self, context: Any, called: Any, /, *arguments: Any, **named: Any) -> Any:
        own = called in (self.tilde, self.contains, raise_exception, TemplateNamespace) or isinstance(called, Macro)
        its_method = isinstance(getattr(called, "__self__", None), Traced)
        given = [*arguments, *(value for name, value in named.items() if name not in _JINJA_PASSES)]
        if not own and not its_method and any(map(_holds_traced, given)):
            raise ContentDependent
        return super().call(context, called, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and _holds_traced(right):
            raise ContentDependent
        return super().call_binop(context, operator, left, right)


class _Followed(NodeTransformer):
    """`~` and `in` as calls: compiled as they are, they would take a `Traced` for its plain value."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("tilde", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not any(operand.op in ("in", "notin") for operand in node.ops):
            return node
        if len(node.ops) > 1:
            raise ContentDependent
        found = _call("contains", [node.expr, node.ops[0].expr], node.lineno)
        return found if node.ops[0].op == "in" else nodes.Not(found, lineno=node.lineno)


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    """A call of this environment's own, for which a template has no name."""
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


class _Inline(Extension):
    """`{% generation %}` as if it were not there: what stands in it stays traced."""

    tags = {"generation"}  # noqa: RUF012 - as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _concat(parts: Iterable[str]) -> str:
    parts = list(parts)
    traced = next((part for part in parts if isinstance(part, Traced)), None)
    text = "".join(parts)
    return text if traced is None else traced.trace.text(text)


def _contains(item: Any, container: Any) -> bool:
    if isinstance(item, Traced) and isinstance(container, str) and not isinstance(container, Traced):
        raise ContentDependent
    return item in container


class _SomeLength:
    """Of a text with a content in it, which is never empty: more than nothing, and nothing else is known of it."""

    def __gt__(self, other: object) -> bool:
        if type(other) is not int or other > 0:
            raise ContentDependent
        return True

    def __eq__(self, other: object) -> bool:
        return not self > other

    def __ne__(self, other: object) -> bool:
        return self > other

    def __bool__(self) -> bool:
        return True

    def _refused(self, *_: object) -> NoReturn:
        raise ContentDependent

    __hash__ = __str__ = __repr__ = __format__ = __lt__ = __le__ = __ge__ = _refused


def _length(value: Any) -> Any:
    return _SomeLength() if isinstance(value, Traced) and str.__len__(value) else len(value)


def _unknown(*_: Any, **__: Any) -> Any:
    raise ContentDependent


def _holds_traced(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_traced, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_traced, value))
    return isinstance(value, Traced) or not isinstance(value, (str, int, float, type(None)))
