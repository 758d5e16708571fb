"""The table in README.md says what the suite shows, no more and no less."""

from __future__ import annotations

import importlib
import inspect

from tests.faults import declared


def test_the_committed_table_is_what_the_suite_declares() -> None:
    assert declared.TABLE.read_text(encoding="utf-8") == declared.table(), "python -m tests.faults.declared writes it anew"


def test_every_test_of_a_fault_is_in_the_table() -> None:
    shown = {fault.test for fault in declared.declared()}
    tests = {
        f"{path.stem}.{name}"
        for path in declared.FOLDER.glob("test_*.py")
        if path.stem not in ("test_table", "test_workers")  # the table itself, and what the tests of faults are made with
        for name, _ in inspect.getmembers(importlib.import_module(f"tests.faults.{path.stem}"), inspect.isfunction)
        if name.startswith("test_")
    }
    assert tests - shown == set()
