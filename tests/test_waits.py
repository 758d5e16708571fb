"""No test may stand still for ever: one that waits without an end keeps every test after it from being run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
_LEFT_OUT = ("benchmarks", "waiting.py", "audit.py", "screenshots.py")  # what is no test, and where waits are given their end
_WAITS = ("wait", "join", "communicate")
_RUNS = ("run", "check_call", "check_output", "call")


def without_an_end(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) of each call that waits for another process or thread for as long as that takes.

    A process that stands still is let go on by `waiting.go_on` alone: it sees it stand still first.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "SIGCONT":
            yield node.lineno, ast.unparse(node)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        bounded = any(keyword.arg == "timeout" for keyword in node.keywords)
        of_subprocess = ast.unparse(node.func.value) == "subprocess" and node.func.attr in _RUNS
        if not bounded and (of_subprocess or (node.func.attr in _WAITS and not node.args and not node.keywords)):
            yield node.lineno, ast.unparse(node)


def test_every_wait_has_an_end() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS)
        if name.parts[0] not in _LEFT_OUT:
            found += [f"{name}:{line}: {what}" for line, what in without_an_end(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_a_wait_without_an_end_is_found() -> None:
    lines = ["import os", "p.wait()", "subprocess.run(['ls'])", "os.kill(1, signal.SIGCONT)", "p.wait(timeout=3)", "','.join(x)"]
    assert [line for line, _ in without_an_end("\n".join(lines))] == [2, 3, 4]
