"""What is installed elsewhere is what is tested here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT, environment
from tests.waiting import PATIENCE_S, WHOLE_RUN_S

_FIRST_IN_PATH = """
import sys
sys.path.insert(0, sys.argv[1])
import humigence_tui, pipeline
assert pipeline.__file__.startswith(sys.argv[1]) and humigence_tui.__file__.startswith(sys.argv[1])
from humigence_tui.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


_SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "humigence_tui",
    "screens",
    "pipeline",
    "configs",
    "data/demo",
    "data/suites",
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that an old build folder here has no say."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(target),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WHOLE_RUN_S, check=False)
    assert done.returncode == 0, done.stderr
    return next(target.glob("humigence-*.whl"))


@pytest.mark.slow
def test_the_wheel_carries_the_shipped_configs_and_rows_as_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for folder, shipped in (
            ("configs", ROOT / "configs"),
            ("demo", ROOT / "data" / "demo"),
            ("suites", ROOT / "data" / "suites"),
        ):
            for file in shipped.iterdir():
                assert archive.read(f"pipeline/shipped/{folder}/{file.name}") == file.read_bytes()


@pytest.mark.slow
def test_the_wheel_carries_every_module_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith((".py", ".tcss"))}
    packages = ("humigence_tui", "screens", "pipeline")
    here = {
        str(file.relative_to(ROOT))
        for package in packages
        for kind in ("py", "tcss")
        for file in (ROOT / package).rglob(f"*.{kind}")
    }
    assert packed == here


@pytest.mark.slow
def test_the_installed_wheel_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", site, wheel], timeout=WHOLE_RUN_S, check=True
    )
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    libraries = [folder for folder in given if folder and Path(folder).resolve() != ROOT]
    changes = environment(PYTHONPATH=os.pathsep.join(libraries))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", _FIRST_IN_PATH, str(site), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=empty, env=changes, timeout=PATIENCE_S, check=False)

    viewed = run("config", "view")
    assert viewed.returncode == 0, viewed.stderr
    assert "TinyLlama/TinyLlama-1.1B-Chat-v1.0" in viewed.stdout
    prepared = {file: file.read_bytes() for file in site.rglob("*.json*")}
    assert run("config", "set", "seed", "7").returncode == 0
    assert run("config", "get", "seed").stdout == "7\n"
    assert {file: file.read_bytes() for file in site.rglob("*.json*")} == prepared, "the installed package is never written to"


def test_every_dependency_has_a_floor_here_and_an_exact_version_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
    )
    canonical = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    for requirement in needed:
        name, floor = requirement.split(">=")
        assert "==" not in requirement
        exact = canonical[re.sub(r"[-_.]+", "-", name).lower()]
        assert _numbers(exact) >= _numbers(floor), requirement
    assert pinned["torch"] == "2.13.0", "no local version: the index decides between the CPU and the CUDA build"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_the_makefile_has_the_targets_that_are_promised() -> None:
    names = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for line in names for target in line.split()}
    promised = "venv install gpu model preprocess train eval pack infer plan validate pipeline test demo lint"
    assert set(promised.split()) <= targets


def test_make_gpu_tells_the_exit_code_of_the_check(tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "humigence"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\ntest "$*" = "doctor --gpu" && exit 4\n')
    fake.chmod(0o755)
    for stamp in (".created", ".installed"):
        (tmp_path / stamp).touch()
    done = subprocess.run(
        ["make", "gpu", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode and "Error 4" in done.stderr


@pytest.mark.parametrize("prompt", ['It\'s $HOME "quoted" `date` \\ $(date)', "two  spaces"])
def test_make_infer_hands_the_prompt_on_as_it_was_typed(tmp_path: Path, prompt: str) -> None:
    fake = tmp_path / "bin" / "humigence"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\nprintf %s "$last"\n')
    fake.chmod(0o755)
    for stamp in (".created", ".installed"):
        (tmp_path / stamp).touch()
    command = ["make", "--no-print-directory", "infer", f"PROMPT={prompt}", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, prompt), done.stderr
