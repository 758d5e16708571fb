"""The wizard stands before anything heavy is loaded, and never loads it."""

from __future__ import annotations

from tests.processes import HEAVY, python


def test_the_screens_never_load_torch_and_its_friends() -> None:
    code = (
        "import sys, screens.setup.wizard, screens.setup.plan, screens.doctor.doctor, screens.setup.saved\n"
        "import pipeline.planning.planner, pipeline.dataset.processed\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr
