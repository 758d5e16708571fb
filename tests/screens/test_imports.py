"""What the app brings into its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "datasets", "peft", "bitsandbytes", "accelerate"}


def modules_after(code: str) -> set[str]:
    """The top-level modules loaded by a fresh interpreter that runs `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_the_first_screen_needs_neither_numpy_nor_pydantic_nor_anything_heavy() -> None:
    loaded = modules_after("import humigence_tui.app, screens.home.home")
    assert "textual" in loaded
    assert loaded & (HEAVY | {"numpy", "pydantic", "psutil", "pynvml"}) == set()


@pytest.mark.parametrize("what", ["screens", "humigence_tui.background"])
def test_no_screen_and_no_thread_ever_loads_torch(what: str) -> None:
    walk = (
        f"import importlib, pkgutil, {what} as package\n"
        "for each in pkgutil.walk_packages(package.__path__, package.__name__ + '.'): importlib.import_module(each.name)\n"
    )
    assert modules_after(walk) & HEAVY == set()
