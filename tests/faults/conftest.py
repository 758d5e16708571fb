"""One process that forks workers for the whole suite, and what an untroubled run leaves behind."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.runner import launch
from tests.faults.disks import disk as disk
from tests.faults.disks import failing_disk as failing_disk
from tests.faults.workers import Project, Workers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a failed test leaves standing still is not the next one's to wait for."""
    report = yield
    if report.failed:
        Workers.renew_all()
    return report


@pytest.fixture(scope="package")
def workers() -> Iterator[Workers]:
    """`launch.start` forks its workers from a process that has torch already."""
    made = Workers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "spawn_worker", made.spawn)
        yield made
    made.close()


@pytest.fixture(scope="package")
def untroubled(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, workers: Workers) -> dict[str, Any]:
    """What the run leaves behind when nothing happens to it."""
    project = Project(tmp_path_factory.mktemp("untroubled"), tiny_model, workers)
    assert project.to_its_end() in (0, 3), project.run.output_log.read_text()[-2000:]
    return project.left_behind()


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, workers: Workers) -> Iterator[Project]:
    yield Project(tmp_path, tiny_model, workers)
    Workers.end_all()
