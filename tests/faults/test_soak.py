"""A short soak; `make soak` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.declared import survives
from tests.faults.soak import soak
from tests.faults.workers import Workers


@survives("soak", "a dozen of them", "the same seed every time", "as above")
@pytest.mark.slow
@pytest.mark.matrix
def test_a_dozen_random_faults_change_nothing(tmp_path: Path, workers: Workers) -> None:
    told: list[str] = []
    assert soak(tmp_path, workers, faults=12, seed=7, say=told.append, epochs=12), "\n".join(told)
