"""Every cell of docs/models.md is what the pipeline does today. Two families here; the whole matrix by `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.families import FAMILIES
from tests.models.cells import COLUMNS, RESULTS, read_results
from tests.models.matrix import library_versions, try_family
from tests.models.table import unnamed

_ALWAYS = ("mistral-window", "qwen3.5-text")  # a window, a hybrid
CPU = read_results(RESULTS / "cpu.json")


def tried() -> list[object]:
    return [pytest.param(name, marks=() if name in _ALWAYS else pytest.mark.matrix) for name in FAMILIES]


@pytest.mark.parametrize("name", tried())
def test_a_family_is_trained_right_or_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    row = try_family(name, tmp_path)
    assert not {column: cell.why for column, cell in row.items() if cell.verdict == "failed"}
    if CPU is not None and name in CPU.families and CPU.versions == library_versions():
        verdicts, shown = (
            {column: (cell.verdict, cell.at) for column, cell in each.items()} for each in (row, CPU.families[name])
        )
        assert verdicts == shown, "python -m tests.models.matrix --write; make docs"


@pytest.mark.parametrize("results", ["cpu.json", "cuda.json"])
def test_every_family_has_a_row_and_no_cell_is_a_fault(results: str) -> None:
    found = read_results(RESULTS / results)
    if found is None:
        pytest.skip("not tried yet")
    assert unnamed() == set()
    for name, row in found.families.items():
        assert set(row) == set(COLUMNS) or (results == "cuda.json" and set(row) < set(COLUMNS)), name
        assert not {column: cell.why for column, cell in row.items() if cell.verdict == "failed"}, name
        assert all(cell.why for cell in row.values() if cell.verdict == "no"), name
