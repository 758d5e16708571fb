"""Every error of ours that the source can raise, by what a person reads: found in the syntax trees of the packages.

A message is a template: `…` stands for what differs each time. `message = f"…"` before `BadInput(message)` is followed, as is a
choice between two texts.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

PACKAGES = ("pipeline", "humigence_tui", "screens")
ANY = "…"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Raised:
    """One text that one place can raise. `template` is its first line."""

    file: str  # pipeline/steps/model.py
    line: int
    error: str  # BadInput
    template: str


def raised(root: Path = ROOT) -> list[Raised]:
    """Every text of every place, in the order of the files."""
    files = {
        path: ast.parse(path.read_text(encoding="utf-8")) for each in PACKAGES for path in sorted((root / each).rglob("*.py"))
    }
    family = error_classes(files.values())
    return [found for path, tree in files.items() for found in raised_by(tree, str(path.relative_to(root)), family)]


def error_classes(trees: object) -> set[str]:
    """`HumigenceError` and every class that is made from it, directly or not."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]  # type: ignore[attr-defined]
    family = {"HumigenceError"}
    while more := {each.name for each in classes if family & {_name(base) for base in each.bases}} - family:
        family |= more
    return family


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def raised_by(tree: ast.Module, file: str, family: set[str]) -> Iterator[Raised]:
    """Every text that a module can raise. `family` are the names of the classes of errors."""
    for node, function in _with_functions(tree, None):
        if isinstance(node, ast.Call) and _builds(node, function, family):
            for text in sorted(_texts(_message(node), _scopes(function, tree))):
                yield Raised(file, node.lineno, _name(node.func), _first_line(text))


def _with_functions(node: ast.AST, function: _Function | None) -> Iterator[tuple[ast.AST, _Function | None]]:
    """Every node with the innermost function around it."""
    for child in ast.iter_child_nodes(node):
        yield child, function
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _with_functions(child, inner)


def _builds(call: ast.Call, function: _Function | None, family: set[str]) -> bool:
    """Whether the call makes an error of ours: by its class, or by a variable that holds one of the classes."""
    name = _name(call.func)
    if name in family:
        return True
    if function is None or not isinstance(call.func, ast.Name):
        return False
    returns = function.returns is not None and _name(function.returns) in family
    return returns and any(True for _ in _assigned(name, list(ast.walk(function))))


def _message(call: ast.Call) -> ast.expr | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "message"]
    return call.args[0] if call.args else named[0] if named else None


# ---------------------------------------------------------------------------------------------------------- texts

Scopes = tuple[list[ast.AST], ...]
"""Statements in which a name may get its value, the innermost scope first."""


def _scopes(function: _Function | None, tree: ast.Module) -> Scopes:
    inside = [list(ast.walk(function))] if function else []
    return (*inside, [*tree.body])


def _texts(node: ast.expr | None, scopes: Scopes, names: frozenset[str] = frozenset()) -> set[str]:
    """What an expression can say. `names` are those being followed, which would lead round in a circle."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        return _joined([_texts(part, scopes, names) for part in node.values])
    if isinstance(node, ast.FormattedValue) and node.conversion < 0 and node.format_spec is None:
        # Without a word of its own it is only something filled in.
        return {text if any(map(str.isalpha, text)) else ANY for text in _texts(node.value, scopes, names)}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_texts(node.left, scopes, names), _texts(node.right, scopes, names)])
    if isinstance(node, ast.IfExp):
        return _texts(node.body, scopes, names) | _texts(node.orelse, scopes, names)
    if isinstance(node, ast.Name) and node.id not in names:
        values = next((found for scope in scopes if (found := list(_assigned(node.id, scope)))), [])
        return {text for value in values for text in _texts(value, scopes, names | {node.id})} or {ANY}
    return {ANY}


def _joined(parts: list[set[str]]) -> set[str]:
    return {"".join(choice) for choice in itertools.product(*map(sorted, parts))}


def _assigned(name: str, scope: list[ast.AST]) -> Iterator[ast.expr]:
    """What a scope assigns to a name."""
    for node in scope:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _unpacked(name, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None and _name(node.target) == name:
            yield node.value


def _unpacked(name: str, target: ast.expr, value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for each, what in zip(target.elts, value.elts, strict=False):
            yield from _unpacked(name, each, what)
    elif _name(target) == name:
        yield value


def _first_line(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    while ANY + ANY in line:
        line = line.replace(ANY + ANY, ANY)
    return line
