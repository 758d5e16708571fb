"""Chat templates as transformers runs them, without transformers: for a process that starts in a tenth of a second.

Tests compare every filter, test and global with transformers' own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with what transformers adds to it, but for `lipsum`: what a template writes is not left to chance.

    It bounds neither time nor memory: that is the process's (`template_worker`).
    """

    # A power is not computed while a template is compiled, where it may stand in a branch that is never taken.
    intercepted_binops = frozenset(("**",))

    def __init__(self, generation: type[Extension] | None = None) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[generation or _Generation, loopcontrols])
        self.filters["tojson"] = _to_json
        self.globals |= {
            "raise_exception": raise_exception, "strftime_now": strftime_now, "dict": _Dict(), "namespace": TemplateNamespace,
        }  # fmt: skip
        del self.globals["lipsum"]


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


def raise_exception(message: str) -> None:
    raise TemplateError(message)


def strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """In the place of `dict`, whose attributes lead out of the sandbox."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *keys: Any) -> dict[Any, Any]:
        return dict.fromkeys(*keys)


class TemplateNamespace(Namespace):
    """`namespace(…)`, without names that begin with an underscore: some lead out of the sandbox."""

    def __init__(*arguments: Any, **named: Any) -> None:  # so that `self` may be a name in it
        self, *pairs = arguments
        attributes = dict(*pairs, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(
            f"Chat templates cannot store underscore-prefixed attributes on a namespace, but got {name!r}. "
            "Please rename the attribute."
        )
