"""docs/architecture.md names what is there: every symbol it gives is defined in a file that is named beside it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import keys as config_keys
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_PATH = re.compile(r"(?:pipeline|screens|humigence_tui|tests|configs)/[\w/.-]*|pyproject\.toml|Makefile")
_SYMBOL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def _blocks() -> Iterator[str]:
    """Paragraphs, rows of tables and points of lists: what belongs together. Pictures are none."""
    text = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\||\* |#)", text):
        yield " ".join(block.split())


def _named(block: str) -> tuple[list[Path], list[str]]:
    """The files and folders a block names, and its symbols: all code that is neither a setting nor a command."""
    code = re.findall(r"`([^`]+)`", block)
    settings = {key.name for key in config_keys.every_key()}
    paths = [ROOT / each for each in code if _PATH.fullmatch(each)]
    others = {*settings, "events.jsonl", "humigence", "typer", "humigence_tui", "screens", "pipeline"}
    bare = (re.sub(r"\(.*\)( -> .*)?$", "", each) for each in code if not _PATH.fullmatch(each))
    return paths, [each for each in bare if _SYMBOL.fullmatch(each) and each not in others]


BLOCKS = [block for block in _blocks() if _named(block)[1]]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[:60])
def test_a_symbol_is_defined_in_a_file_named_beside_it(block: str) -> None:
    paths, symbols = _named(block)
    defined = {name for path in paths for file in _modules(path) for name in _defined(file)}
    assert not set(symbols) - defined, f"not in {', '.join(str(path.relative_to(ROOT)) for path in paths) or 'any file named'}"


def test_it_follows_a_row_a_setting_a_loss_and_an_error() -> None:
    followed = PAGE.split("## Followed through the code")[1].split("\n## ")[0]
    assert len(re.findall(r"^### One ", followed, re.MULTILINE)) == 4


def _modules(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")


@functools.cache
def _defined(file: Path) -> frozenset[str]:
    """Top-level names of a module, and the names in its classes as `Class.name`."""
    names = set[str]()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names.update(_names(node))
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{name}" for inner in node.body for name in _names(inner))
    return frozenset(names)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [ast.unparse(node.target)]
    return [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []
